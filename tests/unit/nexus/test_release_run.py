"""The model's lock, freed by the kernel, and what a killed pipeline leaves running."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from nexus import release_run
from nexus.outcome import ReleaseResult
from nexus.release_run import ReleaseBusyError, end_leftovers, model_lock, run_release
from serving.local.processes import HOME_VARIABLE, ProcessId
from serving.settings import NexusSettings
from tests.fakes.releases import make_release

HOLD = """
import sys
from types import SimpleNamespace
from pathlib import Path
from nexus.release_run import model_lock
from serving.settings import NexusSettings
release = SimpleNamespace(release_id="m-first", spec=SimpleNamespace(model="m"))
with model_lock(NexusSettings(home=Path(sys.argv[1])), release):
    print("held", flush=True)
    sys.stdin.read()
"""


def release(release_id: str, model: str = "m"):
    return SimpleNamespace(release_id=release_id, spec=SimpleNamespace(model=model))


def test_second_release_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    """While one release of a model runs, another is refused and told which one runs; other models are free."""
    settings = NexusSettings(home=tmp_path)
    with model_lock(settings, release("m-first")):
        with pytest.raises(ReleaseBusyError, match="m-first"), model_lock(settings, release("m-second")):
            pass
        with model_lock(settings, release("n-first", model="n")):
            pass
    with model_lock(settings, release("m-second")):
        pass


@pytest.mark.timeout(60)
def test_a_killed_release_frees_its_lock(tmp_path: Path) -> None:
    """kill -9 of the holder leaves nothing that keeps the next release out."""
    settings = NexusSettings(home=tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ReleaseBusyError), model_lock(settings, release("m-second")):
            pass
        holder.kill()
        holder.wait()
    with model_lock(settings, release("m-second")):
        pass


STEP = "import sys, time; open(sys.argv[1] + '/step.pid', 'w').write(str(__import__('os').getpid())); time.sleep(60)"
DYING_PIPELINE = """#!/bin/sh
# Called as `python -m pipelines.run_local <release.json>`: starts a step and is killed alone.
folder=$(dirname "$3")
'{python}' -S -c "{step}" "$folder" &
while [ ! -s "$folder/step.pid" ]; do sleep 0.01; done
kill -9 $$
"""


@pytest.mark.timeout(60)
def test_step_of_a_pipeline_that_was_killed_alone_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing works on in a release that has been reported as failed."""
    settings = NexusSettings(home=tmp_path / "home")
    release = make_release()
    python = tmp_path / "python"
    python.write_text(DYING_PIPELINE.format(python=sys.executable, step=STEP))
    python.chmod(0o755)
    monkeypatch.setattr(release_run.sys, "executable", str(python))
    outcome = run_release(release, settings, on_event=lambda _: None, start_node=lambda: None, keep_node=lambda: None)
    assert outcome.result is ReleaseResult.FAILED
    step = int((settings.release_dir(release.release_id) / "step.pid").read_text())
    assert ProcessId.of(step) is None


def test_a_pipeline_is_not_told_the_callers_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs steps, quantizers and simulated users, none of which asks as the caller."""
    monkeypatch.setenv("NEXUS_API_KEY", "nx_mine")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nenv > "$(dirname "$3")/environment"\n')
    python.chmod(0o755)
    monkeypatch.setattr(release_run.sys, "executable", str(python))
    settings, release = NexusSettings(home=tmp_path / "home"), make_release()
    run_release(release, settings, on_event=lambda _: None, start_node=lambda: None, keep_node=lambda: None)
    told = (settings.release_dir(release.release_id) / "environment").read_text()
    assert f"{HOME_VARIABLE}={settings.home}" in told
    assert "nx_mine" not in told


@pytest.mark.timeout(60)
def test_leftovers_are_those_of_one_release_and_home(tmp_path: Path) -> None:
    """A process of another release, or of the same one in another home, is nobody's leftover."""
    settings = NexusSettings(home=tmp_path / "home")
    folders = [settings.release_dir("m-1"), settings.release_dir("m-2")]
    homes = [settings.home, settings.home, tmp_path / "other"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(60)", str(folder)],
            env={**os.environ, HOME_VARIABLE: str(home)},  # noqa: TID251 - handed on
        )
        for folder, home in zip([*folders, folders[0]], homes, strict=True)
    ]
    try:
        end_leftovers(settings, "m-1")
        processes[0].wait(10)
        assert [process.poll() for process in processes[1:]] == [None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_temporary_files_are_those_of_one_release_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same release may run in another home at the same time: only what this home's left behind goes."""
    monkeypatch.setattr(release_run.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    ours, theirs = (NexusSettings(home=tmp_path / name) for name in ("ours", "theirs"))
    left: dict[str, Path] = {}
    for name, settings, release_id in (("gone", ours, "m-1"), ("other", ours, "m-2"), ("theirs", theirs, "m-1")):
        left[name] = Path(tempfile.mkdtemp(prefix=release_run._scratch_prefix(settings, release_id)))
    end_leftovers(ours, "m-1")
    assert {name for name, folder in left.items() if folder.exists()} == {"other", "theirs"}
