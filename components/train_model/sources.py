"""Base weights from elsewhere: a local folder, a model hub at one revision, or the model registry."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from serving.registry import RegistryError
from serving.registry_host import open_registry
from serving.settings import NexusSettings
from serving.source_content import LEFT_OUT
from serving.weights_folder import WeightsFolderError, check_folder

_PINNED = re.compile(r"(?P<id>[A-Za-z0-9][\w.\-]*/[\w.\-]+)@(?P<revision>[0-9a-f]{40})")
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]
_HUB_TIMEOUT_SECONDS = 20.0


class SourceError(Exception):
    """The source of the base weights does not give them."""


def copy_path(source: str, base_path: str, output: Path) -> int:
    """Check a local model folder, then copy it.

    Args:
        source: Folder, absolute or relative to the spec file.
        base_path: Folder of the spec file.
        output: Empty folder to fill.

    Returns:
        Number of parameters.

    Raises:
        SourceError: It is no whole model, or it cannot be copied.
    """
    folder = Path(base_path) / source
    parameters = _checked(folder)
    try:
        shutil.copytree(folder, output, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    except (shutil.Error, OSError) as exc:
        raise SourceError(f"expected to copy {folder} to {output}; {exc}: check space and permissions") from exc
    return parameters


def parse_pin(source: str) -> tuple[str, str]:
    """Split a hub source into id and revision.

    Raises:
        SourceError: It does not name one commit; a branch or tag may move.
    """
    match = _PINNED.fullmatch(source)
    if match is None:
        raise SourceError(f"expected `owner/name@<40 hex digits of a commit>` as hub source; got {source!r}: pin it")
    return match["id"], match["revision"]


def download_hub(source: str, output: Path) -> int:
    """Download a model from the hub at a pinned revision.

    Returns:
        Number of parameters.

    Raises:
        SourceError: The source is not pinned, the hub does not answer or has no such model, or a part is missing.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only this source needs it
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    repo_id, revision = parse_pin(source)
    try:
        snapshot_download(
            repo_id,
            revision=revision,
            local_dir=output,
            allow_patterns=_FILES,
            etag_timeout=_HUB_TIMEOUT_SECONDS,
        )
    except (HfHubHTTPError, OSError, ValueError) as exc:
        reason = str(exc).strip().splitlines()[0][:300] if str(exc).strip() else type(exc).__name__
        raise SourceError(
            f"expected {repo_id} at {revision} from the model hub; {type(exc).__name__}: {reason}: "
            "connect to the hub, or download it elsewhere and use `source: {path: …}`"
        ) from exc
    shutil.rmtree(output / ".cache", ignore_errors=True)
    return _checked(output)


def fetch_registry(source: str, settings: NexusSettings, output: Path) -> int:
    """Copy a model version out of the registry into a folder that does not exist.

    Returns:
        Number of parameters.

    Raises:
        SourceError: The registry has no such version, or it is no whole model.
    """
    try:
        open_registry(settings).fetch(source, output)
    except RegistryError as exc:
        raise SourceError(str(exc)) from exc
    return _checked(output)


def _checked(folder: Path) -> int:
    try:
        return check_folder(folder).parameters
    except WeightsFolderError as exc:
        raise SourceError(str(exc)) from exc
