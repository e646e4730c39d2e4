"""Engines that nobody owns any more: found by the identity files that engines write, and ended with what they left."""

from __future__ import annotations

import shutil
from pathlib import Path

from serving.local.engine_host import scratch_folder
from serving.local.engine_process import read_identity
from serving.local.processes import kill_group
from serving.local.service_record import RecordStore
from serving.settings import NexusSettings


def sweep(settings: NexusSettings) -> None:
    """End engines without a record, and what is left of dead leased ones; remove their files.

    A persistent engine has a record from before its start, so one without a record was started for a reconciler that
    had given it up. A leased engine that lives has an owner.
    """
    records = {record.identity_path for record in RecordStore(settings.run_dir / "services").all()}
    for path in (settings.run_dir / "engines").glob("*.json"):
        identity = read_identity(path)
        if str(path) in records or (identity is not None and identity.lease and identity.process.alive()):
            continue
        if identity is None or kill_group(identity.process, settings.home):
            path.unlink(missing_ok=True)
    drop_scratch(settings)


def drop_scratch(settings: NexusSettings) -> None:
    """Remove temporary folders of engines that have no identity file; the parent does so itself while it lives."""
    folder = scratch_folder(settings)
    for path in folder.iterdir():
        if not _identity(settings, path.name).exists():
            shutil.rmtree(path, ignore_errors=True)


def _identity(settings: NexusSettings, token: str) -> Path:
    return settings.run_dir / "engines" / f"{token}.json"
