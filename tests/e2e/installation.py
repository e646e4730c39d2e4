"""One installation as its user sees it: the `nexus` command as a process, its files, and what runs in its name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from serving.contracts.progress import ProgressEvent
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port

NEXUS = Path(sys.executable).with_name("nexus")
ENVIRONMENTS = Path(sys.prefix).parent
LIMIT_SECONDS = 400.0  # for anything that is waited for; ten times what it takes where nothing else runs

FoundT = TypeVar("FoundT")


@dataclass
class Command:
    """One run of `nexus`, leader of a process group of its own."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self, *, group: bool) -> None:
        """Kill -9, the command alone or with every process of its group, and reap it."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait(LIMIT_SECONDS)

    def wait(self) -> tuple[int, str]:
        """Return exit code and everything that it printed."""
        return self.process.wait(LIMIT_SECONDS), self.output.read_text()


@dataclass
class Installation:
    """A home of its own with the environments of the running one."""

    settings: NexusSettings
    folder: Path
    _commands: list[Command] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path) -> Installation:
        """Make an empty home below a folder, on a free gateway port."""
        home = (folder / "home").resolve()
        home.mkdir(parents=True)
        (home / "envs").symlink_to(ENVIRONMENTS)
        return cls(NexusSettings(home=home, gateway_port=free_port(), gateway_admin_port=free_port()), folder)

    def start(self, *arguments: str | Path) -> Command:
        """Start `nexus` with arguments."""
        output = self.folder / f"nexus-{len(self._commands)}.txt"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}  # noqa: TID251
        own = {"NEXUS_HOME": str(self.settings.home), "NEXUS_GATEWAY_PORT": str(self.settings.gateway_port)}
        own["NEXUS_GATEWAY_ADMIN_PORT"] = str(self.settings.gateway_admin_port)
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [str(NEXUS), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**inherited, **own},
                start_new_session=True,
            )
        self._commands.append(Command(process, output))
        return self._commands[-1]

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        """Run `nexus` to its end; return exit code and output."""
        return self.start(*arguments).wait()

    def record(self, release_id: str) -> ReleaseRecord:
        """Return the record of a release."""
        return ReleaseRecord(self.settings.release_dir(release_id))

    def wait_for(self, command: Command, what: str, look: Callable[[], FoundT | None]) -> FoundT:
        """Wait until `look` finds something while a command runs; the failure says what the command printed last."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            alive = command.running  # before the look: what a command did last must be seen
            found = look()
            if found:
                return found
            if not alive or time.monotonic() > deadline:
                how = "in time" if alive else f"before the end of the command (exit {command.process.returncode})"
                raise AssertionError(f"expected {what} {how}; {command.output.read_text()[-3000:]}")
            time.sleep(0.02)

    def end(self) -> None:
        """Leave nothing behind, whatever happened before."""
        for command in self._commands:
            if command.running:
                command.kill(group=True)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Find every process that names this home in its environment or command line, or works in it, by pid.

        Reads `/proc` itself: what the product finds by its own means is no witness of what it overlooks.
        """
        home = str(self.settings.home).encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command, state = (entry / "cmdline").read_bytes(), (entry / "stat").read_text().rpartition(")")[2]
                inside = os.fsencode((entry / "cwd").readlink()).startswith(home)
                named = home in command or home in (entry / "environ").read_bytes()
            except OSError:
                continue
            if (inside or named) and state.split()[0] not in "ZX":
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:200]
        return found


def listens(port: int) -> bool:
    """Return whether something takes connections on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kinds(events: list[ProgressEvent], step: str) -> list[str]:
    """Return what happened to a step, in order."""
    return [event.kind.value for event in events if event.step == step]
