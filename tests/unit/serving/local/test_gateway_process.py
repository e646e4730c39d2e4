"""With what a home's gateway is started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from serving.local.errors import NodeError
from serving.local.gateway_process import GatewayProcess
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def env_of(settings: NexusSettings, executor: ThreadPoolExecutor) -> dict[str, str]:
    env = GatewayProcess(settings, ("gateway",), executor).env()
    return {name.removeprefix("NEXUS_GATEWAY_"): value for name, value in env.items() if "_GATEWAY_" in name}


def test_a_home_gives_its_gateway_redis_and_secrets(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Without a single setting there are keys, limits and an admin API; the secrets are the same at every start."""
    settings = NexusSettings(home=tmp_path / "home")
    env = env_of(settings, executor)
    assert env["REDIS_URL"] == f"unix://{tmp_path}/home/run/redis.sock"
    assert env["ADMIN_PORT"] == "8081"
    assert env["ADMIN_TOKEN_FILE"] == str(settings.admin_token_file)
    secrets = {name: Path(env[name]).read_text() for name in ("KEY_PEPPER_FILE", "ADMIN_TOKEN_FILE")}
    assert len(set(secrets.values())) == 2
    again = env_of(settings, executor)
    assert {name: Path(again[name]).read_text() for name in secrets} == secrets


def test_what_is_set_is_not_made(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """A person's own Redis, pepper and token reach the gateway as they are, and nothing of ours beside them."""
    settings = NexusSettings(
        home=tmp_path,
        gateway_redis_url=SecretStr("redis://:word@127.0.0.1/0"),
        gateway_key_pepper=SecretStr("p" * 32),
        gateway_admin_token_file=tmp_path / "token",
    )
    env = env_of(settings, executor)
    assert env["REDIS_URL"] == "redis://:word@127.0.0.1/0"
    assert env["KEY_PEPPER"] == "p" * 32
    assert "KEY_PEPPER_FILE" not in env
    assert env["ADMIN_TOKEN_FILE"] == str(tmp_path / "token")
    assert not settings.secrets_dir.exists()


@pytest.mark.parametrize(("setting", "told"), [("gateway_port", "_PORT"), ("gateway_admin_port", "_ADMIN_PORT")])
def test_a_taken_port_is_told_with_its_setting(
    tmp_path: Path, executor: ThreadPoolExecutor, setting: str, told: str
) -> None:
    """Both ports are looked at before the start: a gateway without its admin API would end, again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        other = {"gateway_port": free_port(), "gateway_admin_port": free_port()}
        settings = NexusSettings(home=tmp_path, **{**other, setting: port})
        with pytest.raises(NodeError, match=f"expected port {port} free.*set NEXUS_GATEWAY{told}$"):
            GatewayProcess(settings, ("gateway",), executor).check_start()
