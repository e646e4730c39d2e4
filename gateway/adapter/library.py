"""LiteLLM, loaded with everything off but translating and calling: no retries, fallbacks, caches, callbacks, downloads.

Nothing else imports it. Its types are not used: its module is `Any` to the rest of the adapter.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, Final

from gateway.adapter.settings import prepare_environment

_LOGGERS: Final = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router", "httpx", "openai", "aiohttp", "botocore")


def load_litellm() -> Any:
    """Import LiteLLM (about 4 s) and switch off what the gateway does itself, or what nobody asked for."""
    prepare_environment()
    _keep_proxy_out()
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.num_retries = 0
    litellm.cache = None
    litellm.drop_params = False  # what a provider cannot do is refused, never left out in silence
    litellm.modify_params = False
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    litellm.disable_hf_tokenizer_download = True
    for name in ("callbacks", "input_callback", "success_callback", "failure_callback", "service_callback"):
        setattr(litellm, name, [])
    for name in _LOGGERS:  # they log requests and answers; what failed is logged here, without either
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.CRITICAL)
    return litellm


class _PassThrough:
    """Stands in for LiteLLM's handlers of streams that it does not translate: they are passed on, nothing is logged.

    Expected: a stream of `/v1/messages` is relayed without LiteLLM's proxy. Actual (1.106): the handler lives in
    `litellm.proxy` and imports all of it, with packages for audio, databases and identity providers, to log the usage
    of a stream that has ended.
    """

    @staticmethod
    async def chunk_processor(response: Any, **_: object) -> AsyncIterator[bytes]:
        """Pass on a stream and close it with its reader."""
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        finally:
            await response.aclose()

    @staticmethod
    async def route_streaming_logging_to_handler(**_: object) -> None:
        """Log nothing."""


def _keep_proxy_out() -> None:
    package = "litellm.proxy.pass_through_endpoints"
    for module, attribute in (
        ("streaming_handler", "PassThroughStreamingHandler"),
        ("success_handler", "PassThroughEndpointLogging"),
    ):
        stand_in = ModuleType(f"{package}.{module}")
        setattr(stand_in, attribute, _PassThrough)
        sys.modules[f"{package}.{module}"] = stand_in
