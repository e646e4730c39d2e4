"""SDK: everything the `nexus` command does, for programs and notebooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from components.build_report.logic import write_report
from components.conclude_release.logic import abandon
from nexus.chat import stream_chat
from nexus.outcome import ReleaseOutcome, read_outcome
from nexus.release_run import end_leftovers, model_lock, run_release
from nexus.retention import Cleaned, clean
from serving import release_state
from serving.contracts.conclusion import Conclusion
from serving.contracts.node_status import NodeStatus
from serving.contracts.progress import ProgressEvent
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.local import node
from serving.record import ReleaseRecord
from serving.release_guards import has_ended_as
from serving.resolve import resolve_release
from serving.settings import NexusSettings
from serving.step_context import bind_home, check_home

_RELEASE_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,62}")


class UnknownReleaseError(Exception):
    """No release of that id has a record here."""


def _quiet(_: object) -> None:
    """Report nothing."""


class NexusClient:
    """One Nexus installation.

    Args:
        settings: Where it is; read from the environment (`NEXUS_*`) by default.
    """

    def __init__(self, settings: NexusSettings | None = None) -> None:
        self.settings = settings or NexusSettings.load()
        self.gitops = GitOps(self.settings.gitops, self.settings.home / "gitops.git")

    def up(self, say: Callable[[str], None] = _quiet) -> NodeStatus:
        """Start what does not run yet, and return the node's status once every engine that git wants has answered.

        Raises:
            NodeError: Something did not come up within its time limit; what did keeps running.
        """
        self._start(say)
        return node.wait_served(self.settings, say)

    def down(self, say: Callable[[str], None] = _quiet) -> int:
        """Stop every process of this installation and return how many there were; nothing of the state is lost."""
        return node.down(self.settings, say)

    def status(self) -> NodeStatus | None:
        """Return the node's last status; None when it does not run."""
        return node.read_status(self.settings)

    def release(
        self, spec: Path, *, again: bool = False, on_event: Callable[[ProgressEvent], None] = _quiet
    ) -> ReleaseOutcome:
        """Release what a spec says, or carry on with it; a finished release changes nothing.

        Args:
            spec: Path of the release spec.
            again: Judge the same content once more, as a new attempt.
            on_event: Called for each progress event.

        Raises:
            DocumentError: The spec or a document it names is wrong.
            OtherEnvironmentError: The home belongs to another environment.
            ReleaseBusyError: Another release of this model is running.
            ReleaseHeldError: Another release of this model is not judged yet.
        """
        first = resolve_release(spec)
        check_home(self.settings)
        self._seed()
        bind_home(self.settings)  # only where the environment exists: a misspelt one would hold the home for good
        release = self._attempt(spec) if again else first
        with model_lock(self.settings, release):
            ended = self.ended(release)
            if ended is not None:
                return ended
            self._require_free(release)
            return run_release(
                release,
                self.settings,
                on_event=on_event,
                start_node=self._start,
                keep_node=lambda: node.keep(self.settings),
            )

    def abandon(self, spec: Path) -> Conclusion:
        """Take an unfinished release of this spec out again.

        Raises:
            OtherEnvironmentError: The home belongs to another environment.
            ReleaseStateError: It has ended, or was never deployed.
            ReleaseBusyError: It is running.
        """
        check_home(self.settings)
        self._seed()
        release = self._unfinished(spec)
        record = ReleaseRecord(self.settings.release_dir(release.release_id))
        with model_lock(self.settings, release):
            end_leftovers(self.settings, release.release_id)
            state = release_state.read_release(self.gitops, release.release_id, self.settings.environment)
            has_ended_as(state, release_state.Step.ROLLED_BACK)  # refuses before anything is started
            self._start()
            return abandon(release, reason="abandoned by an operator", settings=self.settings, record=record)

    def report(self, release_id: str | None = None) -> Path:
        """Make a release's report anew and return its path; the record itself stays as it is.

        Args:
            release_id: Which release; the newest by default.

        Raises:
            UnknownReleaseError: No release of that id has a record here.
            FileNotFoundError: None has at all.
        """
        if release_id is not None and not _RELEASE_ID.fullmatch(release_id):
            raise UnknownReleaseError(f"expected a release id such as my-model-0123456789ab; got {release_id!r}")
        folder = self.settings.release_dir(release_id) if release_id else _newest(self.settings.home / "releases")
        if folder is None:
            raise FileNotFoundError(
                f"expected a release in {self.settings.home}; none has been run there: `nexus release SPEC` runs one"
            )
        if not folder.is_dir():
            raise UnknownReleaseError(f"expected a record of release {release_id!r} in {folder.parent}; there is none")
        output = folder / "report.html"
        write_report(ReleaseRecord(folder), output)
        return output

    def clean(self, keep: int) -> Cleaned:
        """Keep the newest releases and what they used, and remove what is older; see `nexus.retention`."""
        return clean(self.settings, self.gitops, keep)

    def ended(self, release: ResolvedRelease) -> ReleaseOutcome | None:
        """Tell how a release ended; None while git, the registry and the node have not all been brought to agree."""
        state = release_state.read_release(self.gitops, release.release_id, self.settings.environment)
        record = ReleaseRecord(self.settings.release_dir(release.release_id))
        if not state.finished or record.read("conclusion", Conclusion) is None:
            return None
        outcome = read_outcome(record, release_id=release.release_id, name=release.name, seconds=0.0, exit_code=0)
        return outcome.model_copy(update={"resumed": True})

    def chat(self, model: str, messages: Sequence[dict[str, str]], *, user: str) -> Iterator[str]:
        """Stream an answer through the gateway, piece by piece."""
        return stream_chat(self.settings.gateway, model, messages, user=user, key=self.settings.api_key)

    def _require_free(self, release: ResolvedRelease) -> None:
        """Refuse what would find the model taken only once it is built; an ending that git knows is only finished."""
        environment = self.settings.environment
        if not release_state.read_release(self.gitops, release.release_id, environment).finished:
            release_state.require_free(self.gitops, release, environment)

    def _attempt(self, spec: Path) -> ResolvedRelease:
        """Resolve the first attempt of a spec that has not ended."""
        attempt = 1
        release = resolve_release(spec, attempt=attempt)
        while release_state.read_release(self.gitops, release.release_id, self.settings.environment).finished:
            attempt += 1
            release = resolve_release(spec, attempt=attempt)
        return release

    def _unfinished(self, spec: Path) -> ResolvedRelease:
        """Resolve the attempt of a spec that has not ended, the first one when all have."""
        first = resolve_release(spec)
        newest = self._attempt(spec)
        started = release_state.read_release(self.gitops, newest.release_id, self.settings.environment).transitions
        return newest if started else first

    def _start(self, say: Callable[[str], None] = _quiet) -> NodeStatus:
        """Have engine parent, reconciler, Redis and gateway running; whoever needs an engine waits for it."""
        self._seed()
        return node.up(self.settings, say)

    def _seed(self) -> None:
        self.gitops.ensure()
        release_state.seed_environment(self.gitops, self.settings.environment)


def _newest(releases: Path) -> Path | None:
    records = [path.parent for path in releases.glob("*/events.jsonl")]
    return max(records, key=lambda folder: (folder / "events.jsonl").stat().st_mtime, default=None)
