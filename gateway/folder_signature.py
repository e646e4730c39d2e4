"""The policy folder: read whole, strictly, from one consistent state, or refused with every reason."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel

from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.load import MAX_DOCUMENT_BYTES, DocumentError, Problem, parse_document
from serving.contracts.route import Route

POLICY_FILE: Final = "policy.yaml"
REVISION_FILE: Final = "REVISION"
ROUTES_FOLDER: Final = "routes"

_YOUNG_SECONDS: Final = 0.05
"""A file this young may change again without changing its timestamp (ticks of 4 to 10 ms)."""

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class Signature(NamedTuple):
    """Changes when a document does: the real path, and identity, size and times of each file in it.

    `young` says that something changed just now and may be changing still.
    """

    real: str
    files: tuple[tuple[str, int, int, int, int], ...]
    young: bool

    def same_as(self, other: Signature | None) -> bool:
        """Tell whether nothing has changed, as far as can be seen."""
        return other is not None and self[:2] == other[:2]


@dataclass(frozen=True, slots=True)
class PolicyDocuments:
    """One good state of the folder. `revision` is the content of REVISION, None when there is no such file."""

    revision: str | None
    policy: GatewayPolicy
    routes: tuple[Route, ...]


@dataclass(slots=True)
class ParseCache:
    """Documents of the last good state by their bytes: of 10,000 routes only the changed ones are parsed again."""

    documents: dict[tuple[type[BaseModel], bytes], BaseModel] = field(default_factory=dict)


def signature_of(path: Path) -> Signature:
    """Look at a file, or at a policy folder's documents, without reading them."""
    real = os.path.realpath(path)
    files: list[tuple[str, int, int, int, int]] = []
    newest = 0.0
    for name, stat in _stats(real):
        files.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    return Signature(real, tuple(files), young=abs(time.time() - newest) < _YOUNG_SECONDS)


def _stats(real: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield real, os.stat(real)  # noqa: PTH116 - paths stay text here: of 10,000 routes each is one, ten times a second
        if not os.path.isdir(real):  # noqa: PTH112
            return
        for folder in (real, os.path.join(real, ROUTES_FOLDER)):  # noqa: PTH118
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.endswith(".yaml") or entry.name in {REVISION_FILE, ROUTES_FOLDER}:
                        yield entry.path, entry.stat()
    except OSError:
        return


def read_folder(folder: Path, cache: ParseCache) -> PolicyDocuments:
    """Read all documents of the folder that `folder` stands for at this moment.

    The link is followed once, so a swap in the middle cannot mix two states.

    Raises:
        DocumentError: Something is missing, broken, or two routes are for one model; all problems are listed.
    """
    real = Path(os.path.realpath(folder))
    problems: list[Problem] = []
    fresh: dict[tuple[type[BaseModel], bytes], BaseModel] = {}
    policy = _read(real / POLICY_FILE, GatewayPolicy, cache.documents, fresh, problems)
    routes: list[Route] = []
    seen: dict[str, Path] = {}
    for path in _route_files(real, problems):
        route = _read(path, Route, cache.documents, fresh, problems)
        if route is None:
            continue
        if route.spec.model in seen:
            text = f"expected one route for the model {route.spec.model!r}; {seen[route.spec.model].name} has it too"
            problems.append(Problem(str(path), 1, "spec.model", text))
        seen[route.spec.model] = path
        routes.append(route)
    revision = _revision(real / REVISION_FILE, problems)
    if problems or policy is None:
        raise DocumentError(problems)
    cache.documents = fresh
    return PolicyDocuments(revision, policy, tuple(routes))


def _route_files(real: Path, problems: list[Problem]) -> list[Path]:
    folder = real / ROUTES_FOLDER
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except FileNotFoundError:
        return []  # before the first release there is no route
    except OSError as exc:
        problems.append(Problem(str(folder), 1, "", f"cannot be read: {exc.strerror or exc}"))
        return []


def _read(
    path: Path,
    model: type[DocumentT],
    known: Mapping[tuple[type[BaseModel], bytes], BaseModel],
    fresh: dict[tuple[type[BaseModel], bytes], BaseModel],
    problems: list[Problem],
) -> DocumentT | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
        document = known.get((model, raw))
        if not isinstance(document, model):
            document = parse_document(raw, model, source=str(path))
    except OSError as exc:
        problems.append(Problem(str(path), 1, "", f"cannot be read: {exc.strerror or exc}"))
        return None
    except DocumentError as exc:
        problems.extend(exc.problems)
        return None
    fresh[model, raw] = document
    return document


def _revision(path: Path, problems: list[Problem]) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(129).decode("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(Problem(str(path), 1, "", f"cannot be read: {exc}"))
        return None
    if not text.isprintable() or len(text) > 128:
        problems.append(Problem(str(path), 1, "", "expected at most 128 printable characters"))
        return None
    return text or None
