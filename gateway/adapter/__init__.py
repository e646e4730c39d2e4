"""The provider adapter: LiteLLM behind OpenAI's and Anthropic's HTTP on a unix socket, as a process of its own.

To the gateway it is one more endpoint. LiteLLM's import time, processor time, dependencies and the providers' secrets
stay in this process; nothing else of ours imports it.
"""
