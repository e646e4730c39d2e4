"""The main job with nothing faked, under kill -9: of the release at every step, and of every process of the node.

Two releases of one installation. The first is killed as soon as each of its steps has started; the second loses
gateway, engine, engine parent and reconciler while its canary runs. The stories are fixtures, each test says one thing
that must be true of them. What is learned and measured is small on purpose: no verdict here depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving import release_history as history
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.node_status import Phase
from serving.contracts.progress import EventKind, ProgressEvent
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.training import StopReason, TrainingReport
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.registry import Registry
from serving.resolve import resolve_release
from tests.e2e.faults import Node, kill
from tests.e2e.installation import ENVIRONMENTS, Installation, listens
from tests.e2e.specs import MODEL, WEIGHTS, line_of, write_bad_spec, write_specs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
    pytest.mark.skipif(
        not (ENVIRONMENTS / "engine" / "bin" / "python").exists(),
        reason="no engine environment beside this one: run `make install`",
    ),
]
STEPS = (
    "prepare_data",
    "validate_data",
    "train_model",
    "quantize_model",
    "benchmark_model",
    "register_model",
    "deploy_kserve",
    "analyze_canary",
    "conclude_release",
)
CACHED_STEPS = frozenset(STEPS) - {"deploy_kserve", "conclude_release"}  # these ask git what is done already
USAGE, BUSY = 2, 5


@dataclass
class Story:
    """One release: its events by run, how the last run ended, and which service its candidate is."""

    spec: Path
    release: ResolvedRelease
    record: ReleaseRecord
    runs: list[list[ProgressEvent]] = field(default_factory=list)
    code: int = -1
    output: str = ""
    refused: tuple[int, str] = (-1, "")

    @classmethod
    def of(cls, installation: Installation, spec: Path) -> Story:
        release = resolve_release(spec)
        return cls(spec, release, ReleaseRecord(installation.settings.release_dir(release.release_id)))

    @property
    def candidate(self) -> str:
        deployment = self.record.read("deployment", Deployment)
        assert deployment is not None
        return deployment.candidate_service


@dataclass(frozen=True)
class EndState:
    """What git, the registry and the node say of the model once a release has ended."""

    transitions: list[tuple[str, int]]
    route: list[tuple[str, str, int]]
    services: list[str]
    running: list[tuple[str, Phase]]
    versions: int
    aliases: dict[str, str]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation.make(tmp_path_factory.mktemp("main-job"))
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def node(installation: Installation) -> Node:
    return Node(installation.settings)


@pytest.fixture(scope="module")
def specs(installation: Installation) -> tuple[Path, Path]:
    return write_specs(installation.folder / "specs")


@pytest.fixture(scope="module")
def first(installation: Installation, node: Node, specs: tuple[Path, Path]) -> Story:
    """The first release, killed at the start of every step: with all that it started, and the command alone."""
    story = Story.of(installation, specs[0])
    for number, step in enumerate(STEPS):
        seen = len(story.record.events())
        command = installation.start("release", story.spec)
        installation.wait_for(command, f"the start of {step}", lambda n=seen, s=step: started(story, s, after=n))
        command.kill(group=number % 2 == 0)
        node.count_engines()
        story.runs.append(story.record.events()[seen:])
    seen = len(story.record.events())
    story.code, story.output = installation.run("release", story.spec)
    node.count_engines()
    story.runs.append(story.record.events()[seen:])
    return story


@pytest.fixture(scope="module")
def second(installation: Installation, node: Node, specs: tuple[Path, Path], first: Story) -> Story:
    """The quantized successor: started twice at once, and its canary loses one process after the other."""
    assert first.code == 0, first.output
    story = Story.of(installation, specs[1])
    command = installation.start("release", story.spec)
    installation.wait_for(command, "the first step", lambda: started(story, STEPS[0]))
    story.refused = installation.run("release", story.spec)

    def wait_for(what: str, look) -> None:
        def counted():
            node.count_engines()
            return look()

        installation.wait_for(command, what, counted)

    wait_for("the canary's first requests", lambda: happened(story, "analyze_canary", EventKind.PROGRESS))
    candidate = story.candidate
    faults = {
        "gateway": node.gateway,
        "candidate's engine": lambda: node.engine(candidate),
        "engine parent": node.parent,
        "reconciler": node.reconciler,
    }
    for what, find in faults.items():
        wait_for(f"a {what}", find)
        assert not happened(story, "analyze_canary", EventKind.FINISHED), (
            f"the canary ended before the {what} was killed"
        )
        killed = find()
        kill(killed)
        wait_for(f"another {what}", lambda look=find, old=killed: look() not in (None, old))
    assert not happened(story, "analyze_canary", EventKind.FINISHED), "the canary ended before all was running again"
    wait_for("the verdict", lambda: happened(story, "analyze_canary", EventKind.FINISHED))
    story.code, story.output = command.wait()
    node.count_engines()
    story.runs.append(story.record.events())
    return story


def happened(story: Story, step: str, kind: EventKind, *, after: int = 0) -> bool:
    return any(event.step == step and event.kind is kind for event in story.record.events()[after:])


def started(story: Story, step: str, *, after: int = 0) -> bool:
    return happened(story, step, EventKind.STARTED, after=after)


def end_state(installation: Installation, node: Node, story: Story) -> EndState:
    gitops = GitOps.of(installation.settings)
    head, environment = gitops.head(), installation.settings.environment
    route = history.route_at(head, MODEL, environment)
    client = Registry(installation.settings)._client
    return EndState(
        transitions=[
            (t.step.value, t.weight_percent)
            for t in history.release_at(head, story.release.release_id, environment).transitions
        ],
        route=[(e.side.value, e.service, e.weight_percent) for e in route.spec.endpoints] if route else [],
        services=history.services_at(head, MODEL, environment),
        running=[(service.name, service.phase) for service in node.services()],
        versions=len(client.search_model_versions(f"name = '{MODEL}'")),
        aliases={name: str(version) for name, version in client.get_registered_model(MODEL).aliases.items()},
    )


def test_release_killed_at_every_step_is_promoted(first: Story) -> None:
    """After nine kills the same command ends as if nothing had happened, and training has ended by time."""
    assert first.code == 0, first.output
    assert [step for step, run in zip(STEPS, first.runs, strict=False) if run[-1].step != step] == []
    training = first.record.read("training", TrainingReport)
    assert training is not None
    assert training.stop_reason is StopReason.TIME_LIMIT


def test_work_done_before_a_kill_is_used_again(first: Story) -> None:
    """What a run has finished, no later run does again."""
    done: set[str] = set()
    for run in first.runs:
        finished = {event.step for event in run if event.kind is EventKind.FINISHED}
        cached = {event.step for event in run if event.kind is EventKind.CACHED}
        assert finished & done & CACHED_STEPS <= cached
        done |= finished
    reused = [len({event.step for event in run if event.kind is EventKind.CACHED}) for run in first.runs]
    assert reused[: len(STEPS) - 1] == [0, 0, 1, 2, 3, 4, 5, 6]


def test_end_state_is_that_of_an_undisturbed_release(installation: Installation, node: Node, first: Story) -> None:
    """One commit a transition, one version, one alias, one engine that gets everything."""
    assert end_state(installation, node, first) == EndState(
        transitions=[("deployed", 0), ("canary", 100), ("promoted", 100)],
        route=[("stable", first.candidate, 100)],
        services=[first.candidate],
        running=[(first.candidate, Phase.READY)],
        versions=1,
        aliases={"stable": "1"},
    )


def test_second_invocation_is_refused(second: Story) -> None:
    """While a release runs the same command exits with its own code and names the release that runs."""
    code, output = second.refused
    assert code == BUSY, output
    assert second.release.release_id in output


def test_canary_that_lost_every_process_once_is_judged(second: Story) -> None:
    """The faults cost requests and time, not the verdict."""
    assert second.code == 0, second.output
    verdict = second.record.read("verdict", CanaryVerdict)
    assert verdict is not None
    assert verdict.decision is Decision.PROMOTE
    assert [step.weight_percent for step in verdict.steps] == list(WEIGHTS)


def test_weights_are_stepped_by_commits_in_order(installation: Installation, node: Node, second: Story) -> None:
    """The whole way stands in git, once; the judged engine serves everybody, the loser's is gone."""
    found = end_state(installation, node, second)
    assert found == EndState(
        transitions=[("deployed", 0), *(("canary", weight) for weight in WEIGHTS), ("promoted", 100)],
        route=[("stable", second.candidate, 100)],
        services=[second.candidate],
        running=[(second.candidate, Phase.READY)],
        versions=2,
        aliases={"stable": "2"},
    )


def test_no_engine_was_started_twice(node: Node, second: Story) -> None:
    """Each service had one engine, the one whose engine was killed had two, one after the other."""
    assert len(node.engines) == 3  # of both releases, and the clone of the first one's beside the second one's
    assert {name: len(seen) for name, seen in node.engines.items() if len(seen) > 1} == {second.candidate: 2}


def test_finished_release_changes_nothing(installation: Installation, node: Node, second: Story) -> None:
    """The same command once more says how the release ended, and runs no pipeline."""
    gitops = GitOps.of(installation.settings)
    files = [second.record.folder / name for name in ("events.jsonl", "pipeline.log", "report.html")]
    before = gitops.head().commit, [path.read_bytes() for path in files], node.engine(second.candidate)
    code, output = installation.run("release", "--json", second.spec)
    assert (code, json.loads(output)["resumed"]) == (0, True), output
    assert (gitops.head().commit, [path.read_bytes() for path in files], node.engine(second.candidate)) == before


def test_down_leaves_no_process_and_no_port(installation: Installation, node: Node, second: Story) -> None:
    """`nexus down` ends everything that nine killed runs and four killed processes have left."""
    ports = {installation.settings.gateway_port, *node.ports}
    assert len(ports) >= 4
    code, output = installation.run("down")
    assert code == 0, output
    assert installation.processes() == {}
    assert [port for port in ports if listens(port)] == []


def test_bad_documents_are_refused_before_anything_starts(tmp_path: Path) -> None:
    """An unknown key, a wrong type and a reference to nothing are listed together, each with its file and line."""
    installation = Installation.make(tmp_path)
    spec = write_bad_spec(tmp_path / "specs")
    code, output = installation.run("release", spec)
    assert code == USAGE, output
    for expected in (
        f"{spec}:{line_of(spec, 'recipez')}: spec.recipez: unknown key",
        f"{spec}:{line_of(spec, 'much')}: spec.canary.alpha: ",
        f"{spec.with_name('absent.yaml')}: expected a readable file",
    ):
        assert expected in output
    assert installation.processes() == {}
    assert not installation.settings.run_dir.exists()
