"""Run git: a fixed identity, no prompts, no inherited `GIT_*` state, UTF-8 both ways, bounded in time."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from serving.settings import inherited_environment

_USER_INFO = re.compile(r"://[^/\s@]+@")
_TIMEOUT_SECONDS = 60
_KEPT = ("GIT_SSH", "GIT_ASKPASS", "GIT_SSL_", "GIT_PROXY_", "GIT_EXEC_PATH")
"""How to reach and trust a server; everything else of `GIT_*` is the state of a hook or alias we were called from."""

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Nexus",
    "GIT_AUTHOR_EMAIL": "nexus@localhost",
    "GIT_COMMITTER_NAME": "Nexus",
    "GIT_COMMITTER_EMAIL": "nexus@localhost",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


class GitError(Exception):
    """git failed; the message holds its command and its last words."""


def run_git(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run git and return what it printed, bytes unchanged.

    Args:
        arguments: Its arguments, without `git`.
        stdin: Text for its standard input.
        env: Variables on top of ours.

    Raises:
        GitError: git is missing, exited with an error, or took longer than a minute.
    """
    inherited = {
        name: value
        for name, value in inherited_environment().items()
        if not name.startswith("GIT_") or name.startswith(_KEPT)
    }
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsync=committed", "-c", "log.showSignature=false", *arguments],
            input=(stdin or "").encode(),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env={**inherited, **_IDENTITY, **(env or {})},
        )
    except FileNotFoundError as exc:
        raise GitError("expected git on PATH; there is none: install git") from exc
    except subprocess.TimeoutExpired as exc:
        command = _without_secrets(" ".join(arguments[:3]))
        raise GitError(f"expected `git {command}` within {_TIMEOUT_SECONDS} s; it did not end") from exc
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()[-1000:]
        raise GitError(_without_secrets(f"`git {' '.join(arguments)}` failed with {done.returncode}: {words}"))
    return done.stdout.decode(errors="replace")


def _without_secrets(text: str) -> str:
    """Hide what stands before the host of a URL: user names and tokens."""
    return _USER_INFO.sub("://***@", text)
