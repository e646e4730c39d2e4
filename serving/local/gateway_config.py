"""What the gateway reads on this machine: its documents, as a ConfigMap mount would show them, and its endpoints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.contracts.endpoints import EndpointDirectory, ServiceEndpoint
from serving.contracts.policy_folder import REFUSED_FILE, REVISION_FILE
from serving.files import atomic_folder, write_atomic

_KEPT = 3  # a gateway may be reading the folder that the link has just left


@dataclass(frozen=True)
class GatewayConfig:
    """Files of the gateway below a home's run folder."""

    run_dir: Path

    @property
    def current(self) -> Path:
        """Link to the folder of documents; swapped in one step."""
        return self.run_dir / "gateway" / "current"

    @property
    def endpoints_file(self) -> Path:
        """Service to address."""
        return self.run_dir / "endpoints.json"

    def revision(self) -> str | None:
        """Return the commit that the link shows."""
        try:
            return (self.current / REVISION_FILE).read_text().strip()
        except FileNotFoundError:
            return None

    def publish(self, revision: str, files: Mapping[str, str], refused: Sequence[str] = ()) -> None:
        """Show new documents; a reader sees all of the old ones or all of the new ones.

        Args:
            revision: Commit that they are of.
            files: Text by name.
            refused: Why documents of this commit are shown as they were before; the gateway tells it on.
        """
        folder = self.current.parent / revision
        if not folder.is_dir():
            with atomic_folder(folder) as work:
                told = {REFUSED_FILE: "\n".join(line.replace("\n", " ") for line in refused)} if refused else {}
                for name, text in {**files, **told, REVISION_FILE: f"{revision}\n"}.items():
                    (work / name).parent.mkdir(parents=True, exist_ok=True)
                    (work / name).write_text(text)
                work.chmod(0o755)
        link = self.current.with_name(f".current.{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(revision)
        link.replace(self.current)
        self._drop_old()

    def publish_endpoints(self, addresses: Mapping[str, tuple[str, bool]]) -> bool:
        """Write service to (address, ready); returns whether it has changed."""
        endpoints = {name: ServiceEndpoint(url=url, ready=ready) for name, (url, ready) in sorted(addresses.items())}
        text = EndpointDirectory(endpoints).model_dump_json(indent=2, exclude_unset=True) + "\n"
        if self.endpoints_file.exists() and self.endpoints_file.read_text() == text:
            return False
        write_atomic(self.endpoints_file, text)
        return True

    def _drop_old(self) -> None:
        folders = [path for path in self.current.parent.iterdir() if path.is_dir() and not path.is_symlink()]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[_KEPT:]:
            if folder.name != self.current.readlink().name:
                shutil.rmtree(folder, ignore_errors=True)
