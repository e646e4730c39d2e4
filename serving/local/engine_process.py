"""What a process does between its fork from the engine parent and the engine's own first line.

Standard library only. Everything here runs in the child.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from serving.local.parent_protocol import StartRequest
from serving.local.processes import ProcessId, die_with_parent


def become_engine(request: StartRequest, parent: int) -> None:
    """Turn a forked child into an engine's process: own session, identity, log, environment.

    A child that cannot ends here: it must never come to serve the parent's clients.

    Args:
        request: What to start.
        parent: Process number of the engine parent, to see whether it died meanwhile.
    """
    try:
        _become_engine(request, parent)
    except OSError as exc:
        print(f"engine {request.token} could not start: {exc}", file=sys.stderr, flush=True)
        os._exit(1)


def _become_engine(request: StartRequest, parent: int) -> None:
    os.setsid()
    if request.lease:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
    _redirect(request.log_path)
    me = ProcessId.of(os.getpid())
    assert me is not None
    _write_identity(Path(request.identity_path), Identity(me, request.lease))
    Path(request.scratch).mkdir(parents=True, exist_ok=True, mode=0o700)
    # vLLM puts the sockets between its processes here; kill -9 leaves them, the parent removes the folder.
    os.environ.update(  # noqa: TID251 - this is the environment of the engine that starts here
        {**request.env, "TMPDIR": request.scratch, "VLLM_RPC_BASE_PATH": request.scratch}
    )
    tempfile.tempdir = None
    # A forked helper of the engine has no use without it: kill -9 of the engine ends its whole group.
    os.register_at_fork(after_in_child=die_with_parent)


def replace_image(request: StartRequest) -> None:
    """Start the engine's own program in this process; does not return."""
    try:
        os.execv(request.argv[0], request.argv)  # noqa: S606 - argv is built by us and never goes through a shell
    except OSError as exc:
        print(f"expected a program at {request.argv[0]}; got {exc.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


@dataclass(frozen=True)
class Identity:
    """What an engine says about itself.

    Attributes:
        process: Leader of its group.
        lease: It ends with the connection that asked for it.
    """

    process: ProcessId
    lease: bool


def read_identity(path: Path) -> Identity | None:
    """Read what `become_engine` wrote; None when it has not run that far, or the file is of another version."""
    try:
        fields = json.loads(path.read_text())
        return Identity(ProcessId(int(fields["pid"]), int(fields["start_time"])), bool(fields["lease"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write_identity(path: Path, identity: Identity) -> None:
    process = identity.process
    work = path.with_suffix(f".{process.pid}")
    work.write_text(json.dumps({"pid": process.pid, "start_time": process.start_time, "lease": identity.lease}))
    work.replace(path)


def _redirect(log_path: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
