"""How a home's Redis is started, and which processes are taken for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from serving.local import engine_host
from serving.local.redis_process import RedisProcess, redis_socket, redis_url
from serving.settings import NexusSettings


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_host, "_TEMPORARY", tmp_path)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.mark.parametrize(("length", "below_home"), [(20, True), (92, True), (93, False), (200, False)])
def test_the_socket_fits_its_address(length: int, below_home: bool) -> None:
    """A path of more than 107 bytes cannot be listened on: then the socket lies in the home's temporary folder."""
    home = Path("/" + "h" * (length - 1))
    path = redis_socket(NexusSettings(home=home))
    assert path.is_relative_to(home) is below_home
    assert len(bytes(home / "run" / "redis.sock")) <= 107 or not below_home


def test_letters_of_more_than_one_byte_count_as_what_they_are() -> None:
    """The limit is on bytes."""
    home = Path("/" + "ä" * 50)
    assert not redis_socket(NexusSettings(home=home)).is_relative_to(home)


def test_the_address_survives_any_path() -> None:
    """What has a meaning in an address is quoted."""
    assert redis_url(NexusSettings(home=Path("/a b/c?d#e%f"))) == "unix:///a%20b/c%3Fd%23e%25f/run/redis.sock"


def test_redis_is_reached_by_its_socket_alone_and_forgets_nothing(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """No port, an append-only file, nothing evicted, and data that only its user can read."""
    redis = RedisProcess(NexusSettings(home=tmp_path), executor)
    words = list(redis.argv())
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--port"] == "0"
    assert options["--unixsocketperm"] == "700"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--dir"] == str(tmp_path / "redis")
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700


def test_redis_gets_no_secret(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """It has no use for what the gateway keeps secret."""
    settings = NexusSettings(home=tmp_path, gateway_key_pepper=SecretStr("p" * 32))
    env = RedisProcess(settings, executor).env()
    assert env["NEXUS_HOME"] == str(tmp_path)
    assert set(env) <= {"NEXUS_HOME", "PATH", "LANG"}


@pytest.mark.parametrize(
    ("command", "mine"),
    [
        ([], False),
        (["/usr/bin/redis-server", "--port", "6379"], False),
        (["/usr/bin/redis-cli", "{folder}"], False),
        (["/old/bin/redis-server", "--dir", "{folder}"], True),
    ],
)
def test_only_a_server_on_the_homes_data_is_the_homes(
    tmp_path: Path, executor: ThreadPoolExecutor, command: list[str], mine: bool
) -> None:
    """A Redis that somebody starts in a shell with NEXUS_HOME set is left alone; an older one of ours is not."""
    redis = RedisProcess(NexusSettings(home=tmp_path), executor)
    assert redis.is_mine([word.format(folder=tmp_path / "redis") for word in command]) is mine


def test_a_redis_that_does_not_answer_is_not_ready(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Without a socket there is no answer, and the status says so."""
    redis = RedisProcess(NexusSettings(home=tmp_path), executor)
    assert redis.ask() is None
    assert not redis.status().ready
    assert redis.status().pid is None
