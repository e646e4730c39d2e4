"""One service's state machine, with a backend of plain values and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import pytest

from serving.contracts.node_status import Phase
from serving.contracts.release_spec import EngineSettings
from serving.local import drain
from serving.local import managed_service as machine
from serving.local.errors import EngineError, NodeError, WeightsError
from serving.local.managed_service import ManagedService
from serving.local.processes import ProcessId
from serving.local.retries import MAX_FAILURES, RETRY_FAILED_SECONDS
from serving.local.service_record import ServiceRecord
from serving.runtimes.inference_service import ServedService

SERVICE = ServedService("m-1", "m", "r-1", "file:///w", "sha256:" + "0" * 64, EngineSettings(ready_timeout_seconds=100))
OTHER = replace(SERVICE, storage_uri="file:///other")


class Now(Executor):
    """Runs work at once, or keeps it when told that it is slow."""

    def __init__(self) -> None:
        self.slow = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.slow:
            return future
        try:
            future.set_result(fn(*args, **kwargs))
        except NodeError as exc:
            future.set_exception(exc)
        return future


class Engines:
    """The backend: what engines do is set by the test, what is done to them is written down."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.weights: Exception | None = None
        self.start_error: Exception | None = None
        self.answer: str | None = None
        self.running: int | None = 0
        self.living: set[int] = set()
        self.exit: int | None = 1
        self.words = ("last words",)
        self.pid = 100

    def prepare(self, service: ServedService) -> None:
        self.did.append("prepare")
        if self.weights:
            raise self.weights

    def plan(self, service: ServedService) -> ServiceRecord:
        self.did.append("plan")
        return ServiceRecord(
            service=service.name,
            spec_digest=service.spec_digest,
            served_name=service.model,
            token=f"t{self.pid}",
            port=20001,
            log_path="/none.log",
            identity_path="/none.json",
            started_at=0.0,
        )

    def start(self, service: ServedService, record: ServiceRecord) -> ServiceRecord:
        self.did.append("start")
        if self.start_error:
            raise self.start_error
        self.pid += 1
        self.living.add(self.pid)
        return record.model_copy(update={"pid": self.pid, "start_time": 1})

    def ready(self, record: ServiceRecord) -> ServiceRecord:
        return record.model_copy(update={"ready_at": 5.0})

    def alive(self, record: ServiceRecord) -> bool:
        return record.pid in self.living

    def exit_code(self, record: ServiceRecord) -> int | None:
        return self.exit

    def problem(self, record: ServiceRecord) -> str | None:
        self.did.append("ask")
        return self.answer

    def in_flight(self, record: ServiceRecord) -> int | None:
        return self.running

    def terminate(self, record: ServiceRecord) -> None:
        self.did.append("terminate")

    def kill(self, record: ServiceRecord) -> None:
        self.did.append("kill")
        assert record.pid is None or isinstance(record.process, ProcessId)
        self.living.discard(record.pid or 0)

    def tail(self, record: ServiceRecord) -> tuple[str, ...]:
        return self.words


class Bench:
    """A service on the bench."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.engines = Engines()
        self.executor = Now()
        self.service = ManagedService("m-1", self.engines, self.executor, lambda: self.time)

    def step(self, times: int = 1, *, may_start: bool = True, gateway_knows: bool = True, seconds: float = 0.2) -> None:
        for _ in range(times):
            self.service.step(may_start=may_start, gateway_knows=gateway_knows)
            self.time += seconds

    def ready(self) -> None:
        self.service.want(SERVICE)
        self.step(4)
        assert self.service.phase is Phase.READY


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_way_to_ready(bench: Bench) -> None:
    """Weights first, then the start, and Ready only after an answer."""
    bench.service.want(SERVICE)
    assert bench.service.phase is Phase.PENDING
    bench.engines.answer = "not yet"
    bench.step(5)
    assert bench.service.phase is Phase.STARTING
    assert bench.service.address is None
    bench.engines.answer = None
    bench.step(2)
    assert bench.service.phase is Phase.READY
    assert bench.service.address == "http://127.0.0.1:20001"
    assert bench.engines.did[:3] == ["prepare", "plan", "start"]
    assert bench.engines.did.count("start") == 1


def test_waits_for_the_parent(bench: Bench) -> None:
    """Without a parent, or while the machine is busy with another start, nothing is started."""
    bench.service.want(SERVICE)
    bench.step(5, may_start=False)
    assert "start" not in bench.engines.did
    assert "parent" in bench.service.message
    bench.step()
    assert bench.service.is_starting


def test_document_that_changes_during_the_check_is_checked_again(bench: Bench) -> None:
    """An engine never starts with weights that were checked for another document."""
    bench.service.want(SERVICE)
    bench.step(1, may_start=False)
    bench.service.want(OTHER)
    bench.step(3)
    assert bench.engines.did[:3] == ["prepare", "prepare", "plan"]


def test_broken_weights_fail_at_once_and_are_looked_at_again(bench: Bench) -> None:
    """Three quick tries on the same files make no sense; once the files are mended, nobody has to do more."""
    bench.engines.weights = WeightsError("truncated")
    bench.service.want(SERVICE)
    bench.step(3)
    assert bench.service.phase is Phase.FAILED
    assert bench.service.message == "truncated"
    bench.engines.weights = None
    bench.time += machine.RETRY_WEIGHTS_SECONDS
    bench.step(4)
    assert bench.service.phase is Phase.READY


def test_broken_weights_are_told_while_no_start_is_possible(bench: Bench) -> None:
    """The reason does not wait for the engine parent."""
    bench.engines.weights = WeightsError("truncated")
    bench.service.want(SERVICE)
    bench.step(3, may_start=False)
    assert bench.service.phase is Phase.FAILED
    assert bench.service.status().engine_failure is None


def test_crash_loop_is_bounded(bench: Bench) -> None:
    """An engine that dies while starting is tried three times, then Failed with its last words; later once more."""
    bench.service.want(SERVICE)
    for _ in range(400):
        bench.engines.living.clear()
        bench.step()
    assert bench.engines.did.count("start") == MAX_FAILURES
    assert bench.service.phase is Phase.FAILED
    assert bench.service.status().log_tail == ("last words",)
    bench.time += RETRY_FAILED_SECONDS
    bench.step(4)
    assert bench.service.phase is Phase.READY


@pytest.mark.parametrize("change", ["document", "wish"])
def test_failed_service_is_tried_again_when_asked(bench: Bench, change: str) -> None:
    """A changed document, or somebody's wish, does not wait for the slow retry."""
    bench.engines.weights = WeightsError("truncated")
    bench.service.want(SERVICE)
    bench.step(3)
    bench.engines.weights = None
    bench.step(3)
    assert bench.service.phase is Phase.FAILED
    if change == "document":
        bench.service.want(OTHER)
    else:
        bench.service.retry()
    assert bench.service.phase is Phase.PENDING
    bench.step(4)
    assert bench.service.phase is Phase.READY


def test_same_document_again_is_no_reason_to_retry(bench: Bench) -> None:
    """A later commit that leaves the document alone changes nothing."""
    bench.engines.weights = WeightsError("truncated")
    bench.service.want(SERVICE)
    bench.step(3)
    bench.service.want(replace(SERVICE, release_id="r-2"))
    bench.step(3)
    assert bench.engines.did.count("prepare") == 1


@pytest.mark.parametrize(
    ("code", "words", "failure"),
    [
        (1, "bad config", "exited with code 1"),
        (0, "", "exited with code 0"),
        (-11, "", "died of SIGSEGV"),
        (-9, "", None),
        (None, "", None),
        (1, f"OSError: {machine.DISK_FULL}", None),
    ],
)
def test_engine_is_blamed_only_for_what_it_did(bench: Bench, code: int | None, words: str, failure: str | None) -> None:
    """A kill from outside, an end that nobody saw and a full disk say nothing of what it would have served."""
    bench.engines.exit, bench.engines.words = code, (words,)
    bench.service.want(SERVICE)
    for _ in range(100):
        bench.engines.living.clear()
        bench.step()
    found = bench.service.status()
    assert found.phase is Phase.FAILED
    assert (failure is None) is (found.engine_failure is None)
    assert failure is None or failure in found.engine_failure
    bench.service.retry()
    bench.step(4)
    assert bench.service.status().engine_failure is None


def test_never_ready_is_failed_after_its_time(bench: Bench) -> None:
    """One whole time limit is enough to know; the engine is ended."""
    bench.engines.answer = "answered 500"
    bench.service.want(SERVICE)
    bench.step(3)
    bench.time += SERVICE.engine.ready_timeout_seconds
    bench.step(2)
    assert bench.service.phase is Phase.FAILED
    assert "answered 500" in bench.service.message
    assert "within 100 s" in bench.service.status().engine_failure
    assert bench.engines.did[-1] == "kill"
    assert bench.engines.did.count("start") == 1


def test_dead_engine_is_started_again(bench: Bench) -> None:
    """Self-healing: under a new process, after what was left of the old one is gone."""
    bench.ready()
    bench.engines.living.clear()
    bench.step()
    assert bench.service.address is None
    assert bench.engines.did[-1] == "kill"
    bench.time += 1.0
    bench.step(4)
    assert bench.service.phase is Phase.READY
    assert bench.engines.did.count("start") == 2


@pytest.mark.parametrize(("pause_seconds", "phase"), [(machine.STEADY_SECONDS + 1, Phase.READY), (1.0, Phase.FAILED)])
def test_deaths_far_apart_are_no_crash_loop(bench: Bench, pause_seconds: float, phase: Phase) -> None:
    """Three deaths in three weeks are mended each time; three in a minute end in Failed."""
    bench.service.want(SERVICE)
    for _ in range(MAX_FAILURES):
        bench.step(4)
        assert bench.service.phase is Phase.READY
        bench.time += pause_seconds
        bench.engines.living.clear()
        bench.step()
        bench.time += 5.0
    bench.step(4)
    assert bench.service.phase is phase


def test_engine_that_stops_answering_is_replaced(bench: Bench) -> None:
    """One slow answer is forgiven, three in a row are not."""
    bench.ready()
    bench.engines.answer = "timed out"
    bench.time += machine.PROBE_EVERY_SECONDS
    bench.step()
    assert bench.service.phase is Phase.READY
    bench.engines.answer = None
    bench.step(1, seconds=2.0)
    bench.step(1, seconds=machine.PROBE_EVERY_SECONDS)
    bench.engines.answer = "timed out"
    bench.step(machine.PROBES_BEFORE_RESTART, seconds=machine.PROBE_EVERY_SECONDS)
    assert bench.engines.did[-1] == "kill"
    assert "stopped answering" in bench.service.message


def test_drain_order(bench: Bench) -> None:
    """Out of the endpoints first, then the requests end, then SIGTERM, then what is left is killed."""
    bench.ready()
    bench.service.want(None)
    bench.engines.running = 2
    bench.step()
    assert bench.service.phase is Phase.DRAINING
    assert bench.service.address is None
    bench.step(10)
    assert "terminate" not in bench.engines.did
    bench.engines.running = 0
    bench.step(3)
    assert bench.engines.did[-1] == "terminate"
    bench.engines.living.clear()
    bench.step(2)
    assert bench.engines.did[-1] == "kill"
    assert bench.service.gone


def test_drain_waits_for_the_gateway_but_not_for_ever(bench: Bench) -> None:
    """A gateway that is gone does not keep an engine alive."""
    bench.ready()
    bench.service.want(None)
    bench.step(10, gateway_knows=False)
    assert "terminate" not in bench.engines.did
    bench.time += drain.SETTLE_SECONDS
    bench.step(2, gateway_knows=False)
    assert "terminate" in bench.engines.did


def test_drain_is_bounded(bench: Bench) -> None:
    """Requests that never end are cut, and an engine that ignores SIGTERM is killed."""
    bench.ready()
    bench.service.want(None)
    bench.engines.running = 1
    bench.step(3)
    bench.time += drain.DRAIN_WAIT_SECONDS
    bench.step(2)
    assert bench.engines.did[-1] == "terminate"
    bench.time += drain.KILL_AFTER_SECONDS
    bench.step(2)
    assert bench.engines.did[-1] == "kill"
    assert bench.service.gone


def test_drain_is_taken_back(bench: Bench) -> None:
    """A service that comes back before SIGTERM keeps its engine: a rollback costs no start."""
    bench.ready()
    bench.service.want(None)
    bench.engines.running = 1
    bench.step(3)
    bench.service.want(SERVICE)
    bench.step()
    assert bench.service.phase is Phase.READY
    assert bench.engines.did.count("start") == 1


def test_changed_document_replaces_the_engine(bench: Bench) -> None:
    """The old engine drains, then the new one starts; both never run at once under one name."""
    bench.ready()
    bench.service.want(OTHER)
    bench.step(5)
    assert bench.engines.did[-1] == "terminate"
    bench.engines.living.clear()
    bench.step(6)
    assert bench.service.phase is Phase.READY
    assert bench.service.status().spec_digest == OTHER.spec_digest


def test_adopted_engine_is_not_started_again(bench: Bench) -> None:
    """A successor believes a record whose process lives: it serves on, and is asked at once."""
    record = bench.engines.ready(bench.engines.start(SERVICE, bench.engines.plan(SERVICE)))
    bench.engines.did.clear()
    bench.service.adopt(record)
    assert bench.service.address is not None
    bench.service.want(SERVICE)
    bench.step(3)
    assert bench.engines.did == ["ask"]


def test_adopted_record_of_a_dead_engine_is_started_again(bench: Bench) -> None:
    """A record alone is no engine."""
    record = bench.engines.ready(bench.engines.start(SERVICE, bench.engines.plan(SERVICE)))
    bench.engines.living.clear()
    bench.service.adopt(record)
    assert bench.service.address is None
    bench.service.want(SERVICE)
    bench.step()
    bench.time += 2.0
    bench.step(4)
    assert bench.service.phase is Phase.READY


def test_adopted_plan_is_carried_out_under_its_own_token(bench: Bench) -> None:
    """A start that was planned and perhaps asked for is asked for again, with the same token; never planned anew."""
    bench.service.adopt(bench.engines.plan(SERVICE))
    bench.engines.did.clear()
    bench.service.want(SERVICE)
    bench.step(2, may_start=False)
    assert bench.engines.did == []
    bench.step(2)
    assert bench.engines.did[0] == "start"
    assert "plan" not in bench.engines.did


def test_unwanted_adopted_engine_is_ended(bench: Bench) -> None:
    """What the repository no longer asks for is pruned, also by a successor."""
    record = bench.engines.ready(bench.engines.start(SERVICE, bench.engines.plan(SERVICE)))
    bench.service.adopt(record)
    bench.service.want(None)
    bench.step(6)
    assert bench.engines.did[-1] == "terminate"


def test_failed_start_leaves_no_record(bench: Bench) -> None:
    """The parent did not answer: what was planned is forgotten and tried again."""
    bench.engines.start_error = EngineError("no parent")
    bench.service.want(SERVICE)
    bench.step(2)
    assert bench.service.record is None
    assert bench.service.phase is Phase.PENDING
    bench.engines.start_error = None
    bench.time += 2.0
    bench.step(4)
    assert bench.service.phase is Phase.READY


def test_forgotten_before_it_was_started(bench: Bench) -> None:
    """A service that leaves while its weights are checked is gone once the check is over."""
    bench.executor.slow = True
    bench.service.want(SERVICE)
    bench.step()
    bench.service.want(None)
    bench.step()
    assert not bench.service.gone
    assert bench.service._future is not None
    bench.service._future.set_result(None)
    bench.step()
    assert bench.service.gone
