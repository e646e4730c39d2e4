"""The model's lock: one release at a time, freed by the kernel."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nexus.release_run import ReleaseBusyError, model_lock
from serving.settings import NexusSettings

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
