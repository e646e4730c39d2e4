"""The policy folder: read whole, strictly, from one consistent state, or refused with every reason.

The gateway reads it to answer by it, and `nexus policy check` reads it exactly so before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.load import MAX_DOCUMENT_BYTES, DocumentError, Problem, parse_document
from serving.contracts.route import Route

POLICY_FILE: Final = "policy.yaml"
REVISION_FILE: Final = "REVISION"
REFUSED_FILE: Final = "REFUSED"
"""Lines that say which documents of the revision somebody upstream has refused; the folder holds the last good ones."""
ROUTES_FOLDER: Final = "routes"

DocumentT = TypeVar("DocumentT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PolicyDocuments:
    """One good state of the folder.

    Attributes:
        revision: Content of REVISION, None when there is no such file.
        policy: What policy.yaml says.
        routes: One for each model, in the order of their files.
        route_files: Names of the routes' files, in the same order.
        refused: Why documents of this revision are not in the folder, but the last good ones.
    """

    revision: str | None
    policy: GatewayPolicy
    routes: tuple[Route, ...]
    route_files: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(slots=True)
class ParseCache:
    """Documents of the last good state by their content: of 10,000 routes only the changed ones are parsed again.

    By a digest rather than the bytes: what a bounded read returns lies in mapped memory of its own however short it is,
    and giving back 10,000 mappings at once stops every thread for 50 ms.
    """

    documents: dict[tuple[type[BaseModel], bytes], BaseModel] = field(default_factory=dict)


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
    refused = _refused(real / REFUSED_FILE, problems)
    if problems or policy is None:
        raise DocumentError(problems)
    cache.documents = fresh
    return PolicyDocuments(revision, policy, tuple(routes), tuple(path.name for path in seen.values()), refused)


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
        key = model, sha256(raw).digest()
        document = known.get(key)
        if not isinstance(document, model):
            document = parse_document(raw, model, source=str(path))
    except OSError as exc:
        problems.append(Problem(str(path), 1, "", f"cannot be read: {exc.strerror or exc}"))
        return None
    except DocumentError as exc:
        problems.extend(exc.problems)
        return None
    fresh[key] = document
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


def _refused(path: Path, problems: list[Problem]) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            return tuple(file.read(MAX_DOCUMENT_BYTES).decode().splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(Problem(str(path), 1, "", f"cannot be read: {exc}"))
        return ()
