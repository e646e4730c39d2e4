"""Notice a new commit cheaply: a local branch is one small file, a remote one is asked for in the background."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future, wait
from pathlib import Path

from serving.git_command import GitError
from serving.gitops import BRANCH, GitOps, Snapshot

_LOCAL_SECONDS = 5.0  # the file may be packed away; then git itself is asked this often
_REMOTE_SECONDS = 3.0


class HeadWatcher:
    """The newest commit of a repository; `poll` never waits for a network."""

    def __init__(self, repository: GitOps, executor: Executor) -> None:
        self.problem: str | None = None
        self._repository = repository
        self._executor = executor
        self._local = Path(repository.url).resolve() == repository.mirror.resolve()
        self._seen: tuple[int, int] | None = None
        self._ask_at = 0.0
        self._future: Future[Snapshot] | None = None
        self._head: Snapshot | None = None

    def poll(self) -> Snapshot | None:
        """Return the newest commit that is known; None until the repository has answered once.

        A repository that cannot be read leaves its reason in `problem` until it can.
        """
        now = time.monotonic()
        stamp = self._stamp() if self._local else None
        if self._future is None and (now >= self._ask_at or stamp != self._seen):
            self._ask_at = now + (_LOCAL_SECONDS if self._local else _REMOTE_SECONDS)
            self._seen = stamp
            self._future = self._executor.submit(self._repository.head)
            if self._local:
                wait([self._future])
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            try:
                self._head, self.problem = future.result(), None
            except GitError as exc:
                self.problem = f"the GitOps repository cannot be read: {exc}"
        return self._head

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = (self._repository.mirror / "refs" / "heads" / BRANCH).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_mtime_ns, status.st_ino
