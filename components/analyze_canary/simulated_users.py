"""Simulated users of a machine without real ones: `python -m components.analyze_canary.simulated_users JSON`.

Open loop: requests leave at their Poisson times whether or not earlier ones were answered, as real users' do; a closed
loop would ask a slow candidate less often and hide its harm. Nothing is measured here that the gateway measures: the
only product is a `Label` for each whole answer, appended to the labels file. Reaches the loopback address only, dies
with the process that started it, and ends by itself when its time is over.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from pydantic import Field, field_validator

from components.analyze_canary.answers import check_answer
from components.analyze_canary.ask_gateway import BadAnswerError, NotAdmittedError, ask
from components.analyze_canary.users import Ask, Population, TrafficError
from serving.contracts.base import Name, StrictModel
from serving.contracts.observation import Label
from serving.contracts.release_spec import SimulatedTraffic
from serving.data_rows import DataRowsError, read_rows
from serving.files import write_atomic

_PR_SET_PDEATHSIG: Final = 1
_ANSWER_SECONDS: Final = 120.0
"""Users wait longer than the gateway's own limits, so that a stall is the gateway's timeout and not their giving up."""

_CONNECT_SECONDS: Final = 5.0
_COUNTS_EVERY_SECONDS: Final = 1.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class TrafficPlan(StrictModel):
    """What one traffic process does; `parent_pid` is the process it dies with."""

    gateway_url: str
    model: Name
    data: Path
    labels: Path
    counts: Path
    traffic: SimulatedTraffic
    seconds: float = Field(gt=0)
    start: int = Field(default=0, ge=0, description="Number of the first request in the seeded sequence.")
    max_in_flight: int = Field(default=256, ge=1)
    parent_pid: int

    @field_validator("gateway_url")
    @classmethod
    def _loopback(cls, url: str) -> str:
        if urlsplit(url).scheme != "http" or urlsplit(url).hostname not in _LOOPBACK:
            raise ValueError(f"expected http on the loopback address; got {url}: other machines are never loaded")
        return url


class TrafficCounts(StrictModel):
    """What became of the requests: `dropped` ones were due while `max_in_flight` others were still unanswered."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0


class SimulatedUsers:
    """Sends the requests of one plan and labels their answers."""

    def __init__(self, plan: TrafficPlan) -> None:
        self.counts = TrafficCounts()
        self._plan = plan
        self._population = Population(read_rows(plan.data), plan.traffic)
        self._in_flight = 0
        self._admitted = True

    async def run(self) -> None:
        """Send requests until the plan's time is over, then wait for the answers still due.

        Raises:
            TrafficError: The gateway asks for a credential.
        """
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(self._plan.gateway_url, timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            counting = group.create_task(self._write_counts())
            try:
                async with asyncio.TaskGroup() as requests:
                    await self._send(session, requests)
            finally:
                counting.cancel()
        self._save_counts()
        if not self._admitted:
            raise TrafficError(
                "expected a gateway that admits simulated users; its policy asks for a credential, and they have none: "
                "release to real users (without `canary.traffic`), or do not require authentication on this machine"
            )

    async def _send(self, session: aiohttp.ClientSession, requests: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        end = due + self._plan.seconds
        for question in self._population.asks(self._plan.start):
            due += question.gap_seconds
            if due > end or not self._admitted:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._in_flight >= self._plan.max_in_flight:
                self._count(dropped=1)
            else:
                self._in_flight += 1
                requests.create_task(self._ask(session, question))

    async def _ask(self, session: aiohttp.ClientSession, question: Ask) -> None:
        self._count(sent=1)
        try:
            answer = await ask(session, self._plan.model, question)
        except (BadAnswerError, aiohttp.ClientError, TimeoutError) as exc:
            self._admitted = self._admitted and not isinstance(exc, NotAdmittedError)
            self._count(failed=1)
            return
        finally:
            self._in_flight -= 1
        check = check_answer(answer.text, question.row.answer)
        label = Label(
            ts=time.time(),
            request_id=answer.request_id,
            exact_match=check.exact_match,
            format_failure=check.format_failure,
            refusal=check.refusal,
        )
        _append(self._plan.labels, label.model_dump_json())
        self._count(answered=1)

    def _count(self, **more: int) -> None:
        old = self.counts.model_dump()
        self.counts = TrafficCounts(**{**old, **{name: old[name] + by for name, by in more.items()}})

    async def _write_counts(self) -> None:
        while True:
            self._save_counts()
            await asyncio.sleep(_COUNTS_EVERY_SECONDS)

    def _save_counts(self) -> None:
        write_atomic(self._plan.counts, self.counts.model_dump_json())


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends.

    Raises:
        TrafficError: The parent is gone already, or the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        words = os.strerror(ctypes.get_errno())
        raise TrafficError(f"expected the kernel to tie this process to its parent; prctl failed: {words}")
    if os.getppid() != parent_pid:
        raise TrafficError(f"expected process {parent_pid} as parent; it ended before the simulated users started")


def _append(path: Path, line: str) -> None:
    """Append one line in one write, so that a kill leaves at most one broken line."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, (line + "\n").encode())
    finally:
        os.close(fd)


def main(arguments: list[str]) -> int:
    """Run the plan given as JSON; 0 when its time was over, 1 with one line on standard error otherwise."""
    try:
        plan = TrafficPlan.model_validate_json(arguments[0])
        die_with_parent(plan.parent_pid)
        plan.labels.parent.mkdir(parents=True, exist_ok=True)
        asyncio.run(SimulatedUsers(plan).run())
    except (TrafficError, DataRowsError, ValueError, IndexError, OSError) as exc:
        sys.stderr.write(f"simulated users: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
