"""GitOps repository: read at a commit, change by one commit, redo the change when somebody else pushed first.

Works on git objects alone, with no work tree: a kill at any moment leaves unreferenced objects and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

BRANCH = "main"
_PUSH_ATTEMPTS = 20
_TIMEOUT_SECONDS = 60
_AUTHOR = "Nexus"
_EMAIL = "nexus@localhost"


class GitOpsError(Exception):
    """git failed; the message holds its command and its last words."""


@dataclass(frozen=True)
class Commit:
    """One commit: subject and trailers, newest value of a repeated trailer."""

    sha: str
    time: int
    subject: str
    trailers: Mapping[str, str]


Change = Callable[["Snapshot"], Mapping[str, str | None] | None]
"""Maps the tree it is shown to files to write (path to text, None deletes); None means that nothing needs doing."""


@dataclass(frozen=True)
class Snapshot:
    """The repository at one commit; `commit` is None before the first one."""

    repository: GitOps
    commit: str | None

    def paths(self, folder: str = "") -> list[str]:
        """List files below a folder, sorted."""
        if self.commit is None:
            return []
        out = self.repository.git(
            "ls-tree", "-r", "-z", "--name-only", self.commit, *([f"{folder.rstrip('/')}/"] if folder else [])
        )
        return sorted(name for name in out.split("\0") if name)

    def read(self, path: str) -> str | None:
        """Read a file; None when the commit has none of that name."""
        if self.commit is None or path not in self.paths(str(Path(path).parent) if "/" in path else ""):
            return None
        return self.repository.git("cat-file", "blob", f"{self.commit}:{path}")


@dataclass(frozen=True)
class GitOps:
    """A GitOps repository at `url`, mirrored as a bare repository at `mirror` (the same folder for a local one)."""

    url: str
    mirror: Path

    def ensure(self) -> None:
        """Create the mirror, and the repository itself where `url` is a local path that does not exist."""
        for folder in {Path(self.url) if self._is_local() else self.mirror, self.mirror}:
            if not (folder / "HEAD").exists():
                folder.mkdir(parents=True, exist_ok=True)
                _run("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(folder))

    def head(self) -> Snapshot:
        """Fetch and return the branch's newest commit."""
        if not self._same():
            out = self.git("ls-remote", self.url, f"refs/heads/{BRANCH}")
            if not out.strip():
                return Snapshot(self, None)
            self.git("fetch", "--quiet", self.url, f"+refs/heads/{BRANCH}:refs/heads/{BRANCH}")
        out = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{BRANCH}").strip()
        return Snapshot(self, out or None)

    def commit(self, change: Change, subject: str, trailers: Mapping[str, str]) -> str | None:
        """Apply a change on the newest head and push it.

        The change is called again on the new head whenever another push won the race.

        Returns:
            The new commit, or None when the change had nothing to do.

        Raises:
            GitOpsError: git failed, or the push lost every one of its attempts.
        """
        for _ in range(_PUSH_ATTEMPTS):
            base = self.head()
            files = change(base)
            if files is None:
                return None
            tree = self._write_tree(base, files)
            message = subject + "\n\n" + "".join(f"{key}: {_one_line(value)}\n" for key, value in trailers.items())
            parents = ["-p", base.commit] if base.commit else []
            sha = self.git("commit-tree", tree, *parents, "-F", "-", stdin=message).strip()
            if self._push(base.commit, sha):
                return sha
        raise GitOpsError(
            f"expected the push of {subject!r} to win within {_PUSH_ATTEMPTS} attempts; others kept pushing: run it again"
        )

    def log(self, *paths: str) -> list[Commit]:
        """List commits that touch the paths (all without), newest first."""
        head = self.head()
        if head.commit is None:
            return []
        form = "%H%x1f%ct%x1f%s%x1f%(trailers:only,unfold)%x1e"
        out = self.git("log", f"--format={form}", head.commit, *(["--", *paths] if paths else []))
        return [_commit(entry.strip("\n")) for entry in out.split("\x1e") if entry.strip()]

    def git(self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run git in the mirror and return what it printed.

        Raises:
            GitOpsError: It exited with an error or took longer than a minute.
        """
        return _run(f"--git-dir={self.mirror}", *arguments, stdin=stdin, env=env)

    def _is_local(self) -> bool:
        return "://" not in self.url and ":" not in self.url

    def _same(self) -> bool:
        return self._is_local() and Path(self.url).resolve() == self.mirror.resolve()

    def _write_tree(self, base: Snapshot, files: Mapping[str, str | None]) -> str:
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
                self.git("update-ref", f"refs/heads/{BRANCH}", new, old or "0" * 40)
            else:
                lease = f"--force-with-lease=refs/heads/{BRANCH}:{old or ''}"
                self.git("push", "--quiet", lease, self.url, f"{new}:refs/heads/{BRANCH}")
        except GitOpsError:
            if self.head().commit == old:
                raise
            return False
        return True


def _run(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    identity = {
        "GIT_AUTHOR_NAME": _AUTHOR,
        "GIT_AUTHOR_EMAIL": _EMAIL,
        "GIT_COMMITTER_NAME": _AUTHOR,
        "GIT_COMMITTER_EMAIL": _EMAIL,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, **identity, **(env or {})},  # noqa: TID251 - git needs PATH and HOME of this process
        )
    except subprocess.TimeoutExpired as exc:
        raise GitOpsError(
            f"expected `git {' '.join(arguments[:3])}` within {_TIMEOUT_SECONDS} s; it did not end"
        ) from exc
    if done.returncode != 0:
        raise GitOpsError(f"`git {' '.join(arguments)}` failed with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _commit(entry: str) -> Commit:
    sha, time, subject, trailers = entry.split("\x1f")
    pairs = dict(line.split(": ", 1) for line in trailers.splitlines() if ": " in line)
    return Commit(sha=sha, time=int(time), subject=subject, trailers=pairs)
