"""Stand-ins for quantization tools: programs of the worker that succeed, fail, crash, hang, or grow."""

from __future__ import annotations

from pathlib import Path

_HEAD = """
import os, shutil, sys, time
from pathlib import Path

def copy(arguments):
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(Path(arguments["base"]) / name, Path(arguments["output"]) / name)

def run(arguments):
    print("tool speaks", flush=True)
"""

BODIES = {
    "copy": "copy(arguments); return os.getpid()",
    "truncate": (
        "copy(arguments); file = Path(arguments['output']) / 'model.safetensors'; "
        "file.write_bytes(file.read_bytes()[:-1])"
    ),
    "count": "copy(arguments); Path(arguments['base'], '..', 'runs').open('a').write('x')",
    "fail": "(Path(arguments['output']) / 'half').write_text('x'); raise ValueError('cannot round this')",
    "crash": "os.abort()",
    "leave": "sys.exit(3)",
    "slow": "time.sleep(0.3)",
    "hang": "time.sleep(60)",
    "grow": "hold = bytearray(os.urandom(1)) * (300 << 20); time.sleep(60)",
    "full": "open('/dev/full', 'w', buffering=1).write('x\\n')",
    "full-inside": "raise RuntimeError('Error while serializing: I/O error: No space left on device (os error 28)')",
    "child": "import subprocess; print(subprocess.Popen(['sleep', '61']).pid, flush=True); time.sleep(60)",
}


def write_program(folder: Path, kind: str) -> Path:
    """Write one stand-in and return its path."""
    path = folder / f"{kind}.py"
    path.write_text(f"{_HEAD}    {BODIES[kind]}\n")
    return path
