"""The models under test and their engines: all of them live at once, so that rounds can alternate between them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from serving.contracts.release_spec import EngineSettings
from serving.local.errors import EngineError

_STARTS_AT_ONCE = 2  # a forked start is 4 CPU-seconds; more of them at once only slow each other down on two cores
_TAIL_BYTES = 8192
_TAIL_LINES = 8


class Handle(Protocol):
    """What this step needs of `serving.local.engine_client.EngineHandle`."""

    @property
    def url(self) -> str:
        """Address without path."""


@dataclass(frozen=True)
class Subject:
    """A model to measure; `engine` is how it would be served in production."""

    name: str
    path: Path
    engine: EngineSettings
    served_name: str
    log_path: Path


OpenEngine = Callable[[Subject], AbstractContextManager[Handle]]
"""Serves a subject while the context is open; raises EngineError when it cannot be served."""


@dataclass(frozen=True)
class Served:
    """A subject that answers; `ready_seconds` is the time from its start to its first answered completion."""

    subject: Subject
    url: str
    ready_seconds: float


class SlowStartError(EngineError):
    """An engine took longer to answer than its settings allow; on a less busy machine it might not."""


@dataclass
class Lineup:
    """Who still takes part. A subject leaves for good when its engine cannot be started or stops answering.

    Attributes:
        served: Who answers, by name.
        unserved: Why others do not, with the last lines their engines wrote.
        lost: Those of `unserved` whom another run might see answer: too slow to start, or gone in the middle.
    """

    served: dict[str, Served] = field(default_factory=dict)
    unserved: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def lose(self, name: str, what: str, reason: str) -> None:
        """Take a subject out, with the last lines its engine wrote."""
        lost = self.served.pop(name, None)
        if lost is not None:
            self.unserved[name] = f"{what}: {reason}\n{log_tail(lost.subject.log_path)}".rstrip()
            self.lost.add(name)


@contextmanager
def serve_all(subjects: Sequence[Subject], open_engine: OpenEngine, say: Callable[[str], None]) -> Iterator[Lineup]:
    """Serve all subjects, and stop their engines at the end.

    Args:
        subjects: Names differ.
        open_engine: Serves one subject; called from two threads.
        say: Told of every start.

    Raises:
        Exception: Whatever `open_engine` raises beyond EngineError; engines that run already are stopped.
    """
    lineup = Lineup()
    with ExitStack() as stack:
        with ThreadPoolExecutor(min(_STARTS_AT_ONCE, os.cpu_count() or 1), thread_name_prefix="serve") as pool:
            starts = {subject.name: pool.submit(_open, subject, open_engine) for subject in subjects}
            failures = [_settle(subject, starts[subject.name], lineup, stack, say) for subject in subjects]
        for failure in failures:
            if failure is not None:
                raise failure
        yield lineup


def log_tail(path: Path) -> str:
    """Return the last lines of a log, empty when there is none."""
    try:
        raw = path.read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return ""
    return "\n".join(raw.decode(errors="replace").splitlines()[-_TAIL_LINES:])


def _open(subject: Subject, open_engine: OpenEngine) -> tuple[AbstractContextManager[Handle], Served]:
    started = time.monotonic()
    context = open_engine(subject)
    try:
        handle = context.__enter__()
    except EngineError as exc:
        if time.monotonic() - started >= subject.engine.ready_timeout_seconds:
            raise SlowStartError(str(exc)) from exc
        raise
    return context, Served(subject, handle.url.rstrip("/"), time.monotonic() - started)


def _settle(
    subject: Subject,
    start: Future[tuple[AbstractContextManager[Handle], Served]],
    lineup: Lineup,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Exception | None:
    """Wait for one start; its context is closed by the stack whatever happens to the other starts."""
    try:
        context, served = start.result()
    except EngineError as exc:
        lineup.unserved[subject.name] = str(exc)
        if isinstance(exc, SlowStartError):
            lineup.lost.add(subject.name)
        say(f"{subject.name}: cannot be served")
    except Exception as exc:  # noqa: BLE001 - raised by the caller, when every other start has been settled
        return exc
    else:
        stack.push(context)
        lineup.served[subject.name] = served
        say(f"{subject.name}: serving after {served.ready_seconds:.1f} s")
    return None
