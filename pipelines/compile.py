"""Write every pipeline's YAML: the form Kubeflow's API takes, and Kubernetes objects that Argo CD can sync.

`python -m pipelines.compile` writes; with `--check` it writes nothing and exits with 1 when a committed file differs.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from components.images import VERSION
from pipelines.release_model.pipeline import release_model
from serving.settings import Profile

PIPELINES: Final[Mapping[str, Any]] = {"release-model": release_model}
FOLDER: Final = Path(__file__).resolve().parent.parent / "tests" / "contract" / "pipelines"


def compile_all() -> dict[str, str]:
    """Compile every pipeline.

    Returns:
        File name to YAML; `<name>.yaml` and `<name>.kubernetes.yaml`. The same code gives the same bytes.
    """
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, pipeline in ((name, _for_cluster(pipeline)) for name, pipeline in PIPELINES.items()):
            plain, objects = Path(folder) / f"{name}.yaml", Path(folder) / f"{name}.kubernetes.yaml"
            Compiler().compile(pipeline, str(plain))
            options = KubernetesManifestOptions(
                pipeline_name=name,
                pipeline_version_name=f"{name}-{VERSION.replace('.', '-')}",
                include_pipeline_manifest=True,
            )
            Compiler().compile(
                pipeline, str(objects), kubernetes_manifest_format=True, kubernetes_manifest_options=options
            )
            files |= {path.name: path.read_text() for path in (plain, objects)}
    return files


def _for_cluster(pipeline: Any) -> Any:
    """Return a copy whose steps know that no local node follows their commits, and refuse what they cannot do."""
    copied = copy.deepcopy(pipeline)
    variable = {"name": "NEXUS_PROFILE", "value": Profile.CLUSTER.value}
    for executor in copied.pipeline_spec.deployment_spec["executors"].values():
        executor["container"].update({"env": [variable]})
    return copied


def stale(folder: Path = FOLDER) -> list[str]:
    """List files whose committed YAML is missing, differs, or belongs to no pipeline."""
    compiled = compile_all()
    committed = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    return sorted(name for name in compiled | committed if compiled.get(name) != committed.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Compile, or check what is committed; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    if parser.parse_args(arguments).check:
        names = stale()
        for name in names:
            sys.stderr.write(f"{FOLDER / name} is stale: run `python -m pipelines.compile`\n")
        return 1 if names else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in compile_all().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
