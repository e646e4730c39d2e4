from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess


@pytest.fixture
def engine() -> Iterator[FakeUpstream]:
    fake = FakeUpstream().start_in_thread()
    yield fake
    fake.stop_thread()


@pytest.fixture
def build(tmp_path: Path, engine: FakeUpstream) -> Iterator[Callable[..., GatewayProcess]]:
    made: list[GatewayProcess] = []

    def make(**settings: str) -> GatewayProcess:
        made.append(GatewayProcess(tmp_path, engine, **settings))
        return made[-1]

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture
def gateway(build: Callable[..., GatewayProcess]) -> GatewayProcess:
    return build().start()
