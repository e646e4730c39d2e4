from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.authentication import Auth


@pytest.fixture
async def auth() -> AsyncIterator[Auth]:
    async with asyncio.TaskGroup() as tasks:
        yield Auth(tasks)
