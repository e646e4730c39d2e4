"""Install locked environments: `python nexus/environments/install.py core|dev|engine|provider|autogptq|gptqmodel ...`.

It runs under a bare Python 3.11, so it imports the standard library only. pip installs a hash-pinned uv into
`bootstrap/`, uv installs each lock into `envs/<name>/`, and a stamp written last says what an environment holds. A kill
at any moment leaves an environment without a stamp, which the next run makes anew. One file, because nothing of ours
can be imported yet.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).resolve().parent
STAMP = "nexus-environment.json"
PYTHON = (3, 11)
BOOTSTRAP = "bootstrap"
BUILD = "build.txt"
_HEARTBEAT_SECONDS = 15.0
_LOG_TAIL_LINES = 12
_BUILD_EDITABLE = "import sys; from hatchling.build import build_editable as build; print(build(sys.argv[1]))"
_PIP_TAKES_PYTHON = "import pip; assert tuple(map(int, pip.__version__.split('.')[:2])) >= (22, 3)"
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_NO_INDEX")

_UNREACHABLE = (
    r"dns error|error sending request|[Ff]ailed to fetch|Connection refused|Network is unreachable|name resolution"
    r"|NewConnectionError|[Tt]imed out|client error \(Connect\)|No matching distribution found for uv"
)
HINTS: tuple[tuple[str, str], ...] = (
    (r"No space left on device|os error 28", "the disk is full: free some space and run it again; downloads are kept"),
    (r"[Hh]ash mismatch|DO NOT MATCH THE HASHES", "a package differs from its lock: stop and find out who changed it"),
    (
        _UNREACHABLE,
        (
            "the package index cannot be reached: check network, proxy (HTTPS_PROXY), mirror (UV_DEFAULT_INDEX, "
            "PIP_INDEX_URL) and its certificate (SSL_CERT_FILE, PIP_CERT)"
        ),
    ),
)
"""Pattern in a tool's output -> what is wrong and what to do; the first match is shown."""


class InstallError(Exception):
    """Installation cannot go on; the message holds what was expected, what came and the next action."""


@dataclass(frozen=True)
class Environment:
    """A folder under `envs/`, the lock it holds, and the locks that one includes. Size as measured on disk."""

    folder: str
    lock: str
    gigabytes: float
    includes: tuple[str, ...] = ()


def plan(gpu: bool) -> Mapping[str, Environment]:
    """Map what may be asked for to environments; `gpu` chooses vLLM's CUDA build."""
    engine = Environment("engine", "engine-cuda.txt", 12.0) if gpu else Environment("engine", "engine.txt", 2.0)
    return {
        "core": Environment("core", "core.txt", 6.0),
        "dev": Environment("core", "dev.txt", 6.0, includes=("core.txt",)),
        "engine": engine,
        "provider": Environment("provider", "provider.txt", 0.3),
        "autogptq": Environment("autogptq", "autogptq.txt", 5.0),
        "gptqmodel": Environment("gptqmodel", "gptqmodel.txt", 6.0),
    }


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver answers with at least one GPU."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.lstrip().startswith("GPU ")


def digest(*paths: Path) -> str:
    """Return the SHA-256 of some files' content, hexadecimal."""
    state = hashlib.sha256()
    for path in paths:
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What a finished environment holds; `project` digests our own metadata and where the repository lies."""

    python: str
    locks: Mapping[str, str] = field(default_factory=dict)
    project: str = ""

    @classmethod
    def read(cls, folder: Path) -> Stamp | None:
        """Read an environment's stamp; None when it has none, or an unreadable one, or lost its interpreter."""
        try:
            stamp = cls(**json.loads((folder / STAMP).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return stamp if (folder / "bin" / "python").exists() else None

    def write(self, folder: Path) -> None:
        """Write the stamp in one step."""
        work = folder / f".{STAMP}.{os.getpid()}"
        work.write_text(json.dumps({"python": self.python, "locks": dict(self.locks), "project": self.project}))
        work.replace(folder / STAMP)


def project_digest() -> str:
    """Digest what an editable installation of this repository depends on."""
    return hashlib.sha256(f"{ROOT}\0{digest(ROOT / 'pyproject.toml')}".encode()).hexdigest()


def lock_digests(environment: Environment) -> dict[str, str]:
    """Digest the lock of an environment and those it includes.

    Raises:
        InstallError: A lock is missing.
    """
    names = (environment.lock, *environment.includes)
    if missing := [name for name in names if not (LOCKS / name).is_file()]:
        raise InstallError(f"expected the lock {LOCKS / missing[0]}; it does not exist: run `make lock`")
    return {name: digest(LOCKS / name) for name in names}


@dataclass(frozen=True)
class Installer:
    """Installs into `home`; `lock_file` is held by every child too, so an orphan of a killed run is waited for."""

    home: Path
    lock_file: int

    @property
    def bootstrap(self) -> Path:
        """Folder with uv and the build backend."""
        return self.home / BOOTSTRAP

    def install(self, name: str, environment: Environment) -> None:
        """Make one environment hold its lock and this project; does nothing when it does."""
        folder = self.home / "envs" / environment.folder
        python = _version()
        locks = lock_digests(environment)
        stamp = Stamp.read(folder)
        held = (
            stamp is not None
            and stamp.python == python
            and stamp.locks.get(environment.lock) == locks[environment.lock]
        )
        if stamp is not None and held and stamp.project == project_digest():
            say(f"{name}: up to date")
            return
        self.ensure_bootstrap()
        if stamp is None or not held:
            self._sync(name, folder, environment, fresh=stamp is None or stamp.python != python)
            stamp = Stamp(python, locks)
            stamp.write(folder)
        self._install_project(name, folder)
        Stamp(python, stamp.locks, project_digest()).write(folder)

    def ensure_bootstrap(self) -> None:
        """Install uv and the build backend from their hashes, once."""
        lock = LOCKS / "bootstrap.txt"
        wanted = Stamp(_version(), {"bootstrap.txt": digest(lock)})
        if Stamp.read(self.bootstrap) == wanted:
            return
        shutil.rmtree(self.bootstrap, ignore_errors=True)
        log = self.home / "logs" / "install-bootstrap.log"
        self.run(
            "bootstrap: virtual environment", [sys.executable, "-m", "venv", "--without-pip", str(self.bootstrap)], log
        )
        pip = self._pip(str(self.bootstrap / "bin" / "python"), log)
        options = ["--require-hashes", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
        self.run("bootstrap: uv", [*pip, "install", *options, "-r", str(lock)], log)
        wanted.write(self.bootstrap)

    def _pip(self, python: str, log: Path) -> list[str]:
        """Return a pip that installs into the bootstrap: this Python's own, or else the one ensurepip unpacks there."""
        if _runs(_PIP_TAKES_PYTHON):
            return [sys.executable, "-m", "pip", "--python", python]
        if not _runs("import ensurepip"):
            raise InstallError(
                "expected Python's pip or ensurepip; got neither: install Debian's package python3.11-venv"
            )
        self.run("bootstrap: pip", [python, "-m", "ensurepip"], log)
        return [python, "-m", "pip"]

    def _sync(self, name: str, folder: Path, environment: Environment, *, fresh: bool) -> None:
        lock = LOCKS / environment.lock
        log = self.home / "logs" / f"install-{environment.folder}.log"
        count = len(re.findall(r"(?m)^[a-z0-9]", lock.read_text()))
        (folder / STAMP).unlink(missing_ok=True)
        uv = str(self.bootstrap / "bin" / "uv")
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            self.run(
                f"{name}: virtual environment",
                [uv, "venv", "--no-project", "--python", sys.executable, str(folder)],
                log,
            )
        options = [
            "--python",
            str(folder / "bin" / "python"),
            "--require-hashes",
            "--build-constraints",
            str(LOCKS / BUILD),
        ]
        self.run(f"{name}: {count} packages", [uv, "pip", "sync", *options, str(lock)], log)

    def _install_project(self, name: str, folder: Path) -> None:
        log = self.home / "logs" / f"install-{folder.name}.log"
        with tempfile.TemporaryDirectory(prefix="nexus-wheel-") as wheels:
            self.run(
                f"{name}: wheel of this project",
                [str(self.bootstrap / "bin" / "python"), "-c", _BUILD_EDITABLE, wheels],
                log,
            )
            wheel = next(Path(wheels).glob("*.whl"))
            options = ["--python", str(folder / "bin" / "python"), "--no-deps", "--offline", "--reinstall"]
            self.run(
                f"{name}: this project, editable",
                [str(self.bootstrap / "bin" / "uv"), "pip", "install", *options, str(wheel)],
                log,
            )

    def run(self, what: str, argv: Sequence[str], log: Path) -> None:
        """Run a tool with its output in a log, showing what it does and for how long.

        Raises:
            InstallError: It failed; the message holds its last lines and what to do about it.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with log.open("ab") as out:
            begin = out.tell()
            child = subprocess.Popen(
                argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=self._environment(), pass_fds=[self.lock_file],
            )  # fmt: skip
            try:
                _watch(child, what, log, begin, started)
            except BaseException:
                child.kill()
                child.wait()
                raise
        if child.returncode != 0:
            tail = log.read_bytes()[begin:].decode(errors="replace")
            raise InstallError(_failure(what, child.returncode, tail, log))
        say(f"{what}: done in {time.monotonic() - started:.1f} s")

    def _environment(self) -> dict[str, str]:
        """Return the children's environment: where only pip is told of a mirror or certificate, uv uses the same."""
        env = dict(os.environ)  # noqa: TID251 - runs before any settings module can be imported
        env.pop("NEXUS_API_KEY", None)  # builds of packages run here
        env.setdefault("UV_HTTP_TIMEOUT", "120")
        env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        env["VIRTUAL_ENV"] = ""
        if "PIP_CERT" in env:
            env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
        if not any(name in env for name in _INDEX_VARIABLES) and (index := env.get("PIP_INDEX_URL") or _pip_index()):
            env["UV_DEFAULT_INDEX"] = index
        return env


def _watch(child: subprocess.Popen[bytes], what: str, log: Path, begin: int, started: float) -> None:
    tty = sys.stdout.isatty()
    next_line = started + _HEARTBEAT_SECONDS
    while True:
        try:
            child.wait(timeout=0.2 if tty else 1.0)
            break
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - started
            last = _last_line(log, begin)
            if tty:
                width = shutil.get_terminal_size().columns
                sys.stdout.write(f"\r\x1b[K{f'{what} … {seconds:.0f} s  {last}'[: width - 1]}")
                sys.stdout.flush()
            elif time.monotonic() >= next_line:
                next_line += _HEARTBEAT_SECONDS
                say(f"{what} … {seconds:.0f} s  {last}")
    if tty:
        sys.stdout.write("\r\x1b[K")


def _last_line(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 500))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _failure(what: str, code: int, tail: str, log: Path) -> str:
    hint = next((hint for pattern, hint in HINTS if re.search(pattern, tail)), "see the lines above and the whole log")
    last = "\n  ".join(tail.strip().splitlines()[-_LOG_TAIL_LINES:])
    return f"{what}: failed with exit code {code}\n  {last}\n{hint}\nlog: {log}"


def _runs(program: str) -> bool:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


@functools.cache
def _pip_index() -> str:
    """Return the package index of pip's own configuration files, empty when it names none."""
    argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version() -> str:
    return f"{sys.version.split()[0]} {sys.executable}"


def say(text: str) -> None:
    """Print one progress line."""
    print(f"install  {text}", flush=True)


def check_python(version: Sequence[int]) -> None:
    """Refuse a Python that the locks were not made for.

    Raises:
        InstallError: It is not Python 3.11.
    """
    if tuple(version) != PYTHON:
        raise InstallError(
            f"expected Python {PYTHON[0]}.{PYTHON[1]}, which the locks are made for; got {version[0]}.{version[1]} "
            f"at {sys.executable}: install python3.11 and run `make PYTHON=python3.11 ...`"
        )


def check_space(home: Path, gigabytes: float, cache: Path) -> None:
    """Refuse to start what the disk cannot hold.

    Files are linked from uv's cache where both lie on one file system, so what the cache holds need not fit again.

    Raises:
        InstallError: Too little space is free.
    """
    free = shutil.disk_usage(home).free / 1e9
    if free >= gigabytes:
        return
    if cache.is_dir() and cache.stat().st_dev == home.stat().st_dev:
        cached = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file() and not file.is_symlink()) / 1e9
        gigabytes = max(1.0, gigabytes - cached)
    if free < gigabytes:
        raise InstallError(
            f"expected {gigabytes:.0f} GB free for {home}; got {free:.1f} GB: free some space, "
            "or set NEXUS_HOME to a folder on a larger disk"
        )


@contextmanager
def exclusive(home: Path) -> Iterator[int]:
    """Hold the installation lock; a second installation waits and says so."""
    fd = os.open(home / "install.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation to end")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _cache_folder() -> Path:
    env = os.environ  # noqa: TID251 - runs before any settings module can be imported
    base = env.get("UV_CACHE_DIR")
    return Path(base) if base else Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"


def install_all(names: Sequence[str], home: Path) -> None:
    """Install the named environments below `home`, skipping what is there."""
    environments = plan(gpu="engine" in names and has_gpu())
    chosen = {name: environments[name] for name in names if name != BOOTSTRAP}
    home.mkdir(parents=True, exist_ok=True)
    with exclusive(home) as fd:
        folders = {environment.folder: environment.gigabytes for environment in chosen.values()}
        missing = {folder: size for folder, size in folders.items() if Stamp.read(home / "envs" / folder) is None}
        check_space(home, sum(missing.values()), _cache_folder())
        installer = Installer(home.resolve(), fd)
        if BOOTSTRAP in names:
            installer.ensure_bootstrap()
        for name, environment in chosen.items():
            installer.install(name, environment)


def main(arguments: Sequence[str]) -> int:
    """Install what the command line names.

    Returns:
        0 when everything is in place, 1 with a message when it cannot be, 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="install.py", description="Install Nexus' locked environments.")
    parser.add_argument("environment", nargs="+", choices=[BOOTSTRAP, *plan(gpu=False)])
    home = Path(os.environ.get("NEXUS_HOME") or ROOT / ".nexus")  # noqa: TID251 - as above
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        names = parser.parse_args(arguments).environment
        check_python(sys.version_info[:2])
        install_all(names, home)
    except InstallError as exc:
        print(f"install  error: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"install  error: {exc}: check that {home} is a folder you may write to", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
