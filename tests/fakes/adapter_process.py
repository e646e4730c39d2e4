"""A real provider adapter process in front of fake providers, for integration tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from serving.settings import NexusSettings
from tests.fakes import anthropic_provider, bedrock_provider, openai_provider
from tests.fakes.provider_server import ProviderServer

START_SECONDS = 60.0  # LiteLLM's import takes 4 s on an idle machine; other work may have this one


class AdapterProcess:
    """Starts `python -m gateway.adapter` in the environment `provider`; `stop` always ends it.

    Anthropic's key is in a file, OpenAI's and Amazon's in the variables that LiteLLM names.
    """

    def __init__(
        self, root: Path, openai: ProviderServer, anthropic: ProviderServer, bedrock: ProviderServer | None = None
    ) -> None:
        self.python = NexusSettings.load().home / "envs" / "provider" / "bin" / "python"
        assert self.python.exists(), f"expected the provider environment at {self.python}: run make install-dev"
        self.socket = root / "adapter.sock"
        self.log = root / "adapter.log"
        self.key_file = root / "anthropic.key"
        self.key_file.write_text(anthropic_provider.KEY + "\n")
        self.document = root / "providers.yaml"
        self.document.write_text(
            "kind: Providers\nmetadata: {name: providers}\nspec:\n  providers:\n"
            f"    - {{name: openai, base_url: {openai.url}/v1}}\n"
            f"    - {{name: anthropic, base_url: {anthropic.url}, api_key_file: {self.key_file}}}\n"
            + ("" if bedrock is None else f"    - {{name: bedrock, base_url: {bedrock.url}}}\n")
        )
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self, **settings: str) -> dict[str, str]:
        values = {"SOCKET": str(self.socket), "PROVIDERS_FILE": str(self.document)} | settings
        ours = {f"NEXUS_ADAPTER_{name}": value for name, value in values.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251
        amazon = {
            "AWS_ACCESS_KEY_ID": bedrock_provider.ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": bedrock_provider.SECRET_ACCESS_KEY,
            "AWS_REGION": bedrock_provider.REGION,
        }
        return kept | ours | amazon | {"OPENAI_API_KEY": openai_provider.KEY}

    def start(self, **settings: str) -> AdapterProcess:
        with self.log.open("ab") as log:
            command = [str(self.python), "-m", "gateway.adapter"]
            self.process = subprocess.Popen(command, env=self.environment(**settings), stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            if self._listens():
                with self.client() as client:
                    assert client.get("http://adapter/health/ready").status_code == 200
                return self
            time.sleep(0.1)
        raise AssertionError(f"the adapter did not get ready:\n{self.log.read_text()}")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def client(self) -> httpx.Client:
        """A client that speaks HTTP on the socket; SDKs take it as their own."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=20)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise
