"""GitOps repository: read at a commit, change by one commit, redo the change when somebody else pushed first.

Works on git objects alone, with no work tree: a kill at any moment leaves unreferenced objects and nothing else.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.files import atomic_folder, file_lock
from serving.git_command import GitError, run_git
from serving.settings import NexusSettings

BRANCH = "main"
_REF = f"refs/heads/{BRANCH}"
_PUSH_ATTEMPTS = 20
_LOCK_ATTEMPTS = 50
_LOCK_WAIT_SECONDS = 0.2
_STALE_LOCK_SECONDS = 5.0
"""git holds a ref's lock for milliseconds; one this old was left by a process that was killed."""

_PATH = re.compile(r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")


class GitOpsError(GitError):
    """The repository could not be read or changed; the message holds git's command and its last words."""


@dataclass(frozen=True)
class Commit:
    """One commit: subject and trailers, newest value of a repeated trailer."""

    sha: str
    time: int
    subject: str
    trailers: Mapping[str, str]


Change = Callable[["Snapshot"], Mapping[str, str | None] | None]
"""Maps the tree it is shown to files to write (path to text, None deletes); None means that nothing needs doing.

An empty mapping makes a commit that records a decision and changes no file.
"""


@dataclass(frozen=True)
class Snapshot:
    """The repository at one commit; `commit` is None before the first one."""

    repository: GitOps
    commit: str | None

    def paths(self, folder: str = "") -> list[str]:
        """List files below a folder, sorted."""
        if self.commit is None:
            return []
        where = ["--", f"{folder.rstrip('/')}/"] if folder else []
        out = self.repository.git("ls-tree", "-r", "-z", "--name-only", self.commit, *where)
        return sorted(name for name in out.split("\0") if name)

    def read(self, path: str) -> str | None:
        """Read a file; None when the commit has none of that name."""
        if self.commit is None:
            return None
        entry = self.repository.git("ls-tree", "-z", self.commit, "--", path)
        if not entry or entry.split(None, 2)[1] != "blob":
            return None
        return self.repository.git("cat-file", "blob", entry.split("\t", 1)[0].split()[2])

    def log(self, *paths: str, trailer: tuple[str, str] | None = None) -> list[Commit]:
        """List this commit and those before it, newest first.

        Args:
            paths: Only commits that touch one of these files or folders; all without.
            trailer: Only commits with this trailer, name and value.
        """
        if self.commit is None:
            return []
        form = "%H%x1f%ct%x1f%s%x1f%(trailers:only,unfold)%x1e"
        grep = ["--fixed-strings", f"--grep={trailer[0]}: {trailer[1]}"] if trailer else []
        out = self.repository.git("log", f"--format={form}", *grep, self.commit, "--", *paths)
        commits = [_commit(entry.strip("\n")) for entry in out.split("\x1e") if entry.strip()]
        return [c for c in commits if trailer is None or c.trailers.get(trailer[0]) == trailer[1]]


@dataclass(frozen=True)
class GitOps:
    """A GitOps repository at `url`, mirrored as a bare repository at `mirror` (the same folder for a local one)."""

    url: str
    mirror: Path

    @classmethod
    def of(cls, settings: NexusSettings) -> GitOps:
        """Return an installation's repository, made where it does not exist."""
        repository = cls(settings.gitops, settings.home / "gitops.git")
        repository.ensure()
        return repository

    def ensure(self) -> None:
        """Create the mirror, and the repository itself where `url` is a local path that does not exist."""
        for folder in {Path(self.url) if self._is_local() else self.mirror, self.mirror}:
            if not folder.is_dir():
                with atomic_folder(folder) as work:
                    run_git("init", "--quiet", "--bare", "--template=", f"--initial-branch={BRANCH}", str(work))

    def head(self) -> Snapshot:
        """Fetch and return the branch's newest commit."""
        if self._same():
            out = self.git("for-each-ref", "--format=%(objectname)", _REF).strip()
            return Snapshot(self, out or None)
        listed = self.git("ls-remote", self.url, _REF).split()
        if not listed:
            return Snapshot(self, None)
        if not self._has(listed[0]):
            self.git("fetch", "--quiet", "--no-write-fetch-head", "--no-auto-gc", self.url, _REF)
        if not self._has(listed[0]):
            raise GitOpsError(f"expected commit {listed[0]} in what {self.url} sent; it was not: run it again")
        return Snapshot(self, listed[0])

    def commit(self, change: Change, subject: str, trailers: Mapping[str, str]) -> str | None:
        """Apply a change on the newest head and push it.

        The change is called again on the new head whenever another push won the race.

        Returns:
            The new commit, or None when the change had nothing to do.

        Raises:
            GitOpsError: git failed, or the push lost every one of its attempts.
        """
        message = one_line(subject) + "\n\n" + "".join(f"{key}: {one_line(value)}\n" for key, value in trailers.items())
        for _ in range(_PUSH_ATTEMPTS):
            base = self.head()
            files = change(base)
            if files is None:
                return None
            tree = self._write_tree(base, files)
            parents = ["-p", base.commit] if base.commit else []
            sha = self.git("commit-tree", tree, *parents, "-F", "-", stdin=message).strip()
            if self._push(base.commit, sha):
                return sha
        raise GitOpsError(
            f"expected the push of {subject!r} to win within {_PUSH_ATTEMPTS} attempts; others kept pushing: retry"
        )

    def log(self, *paths: str, trailer: tuple[str, str] | None = None) -> list[Commit]:
        """List commits of the newest head, newest first; see `Snapshot.log`."""
        return self.head().log(*paths, trailer=trailer)

    def git(self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run git in the mirror and return what it printed.

        Raises:
            GitOpsError: It exited with an error or took longer than a minute.
        """
        try:
            return run_git(f"--git-dir={self.mirror}", *arguments, stdin=stdin, env=env)
        except GitError as exc:
            raise GitOpsError(str(exc)) from exc

    def _is_local(self) -> bool:
        return "://" not in self.url and ":" not in self.url

    def _same(self) -> bool:
        return self._is_local() and Path(self.url).resolve() == self.mirror.resolve()

    def _has(self, sha: str) -> bool:
        return bool(self.git("cat-file", "--batch-check", stdin=f"{sha}\n").strip().endswith(tuple("0123456789")))

    def _write_tree(self, base: Snapshot, files: Mapping[str, str | None]) -> str:
        bad = [path for path in files if not _PATH.match(path) or {".", "..", ".git"} & set(path.split("/"))]
        if bad:
            raise GitOpsError(f"expected plain relative paths of letters, digits, '.', '_' and '-'; got {bad}")
        with tempfile.TemporaryDirectory(prefix="nexus-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if base.commit:
                self.git("read-tree", base.commit, env=env)
            lines = []
            for path, text in files.items():
                if text is None:
                    lines.append(f"0 {'0' * 40}\t{path}\n")
                else:
                    blob = self.git("hash-object", "-w", "--stdin", stdin=text).strip()
                    lines.append(f"100644 {blob}\t{path}\n")
            self.git("update-index", "--index-info", stdin="".join(lines), env=env)
            return self.git("write-tree", env=env).strip()

    def _push(self, old: str | None, new: str) -> bool:
        """Move the branch from old to new; False when it was no longer at old."""
        try:
            if self._same():
                with self._writer():
                    self.git("update-ref", _REF, new, old or "0" * 40)
            else:
                self.git("push", "--quiet", f"--force-with-lease={_REF}:{old or ''}", self.url, f"{new}:{_REF}")
        except GitOpsError:
            if self.head().commit == old:
                raise
            return False
        return True

    @contextmanager
    def _writer(self) -> Iterator[None]:
        """Wait for our other writers, and take away a ref lock that a killed one left behind."""
        with file_lock(self.mirror / "nexus-writer.lock"):
            lock = self.mirror / f"{_REF}.lock"
            for _ in range(_LOCK_ATTEMPTS):
                age = _age_seconds(lock)
                if age is None:
                    break
                if age > _STALE_LOCK_SECONDS:
                    lock.unlink(missing_ok=True)
                    break
                time.sleep(_LOCK_WAIT_SECONDS)
            yield


def _age_seconds(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def one_line(value: str) -> str:
    """Fold white space, so that a value fits a trailer."""
    return " ".join(value.split())


def _commit(entry: str) -> Commit:
    sha, seconds, subject, trailers = entry.split("\x1f")
    pairs = dict(line.split(": ", 1) for line in trailers.splitlines() if ": " in line)
    return Commit(sha=sha, time=int(seconds), subject=subject, trailers=pairs)
