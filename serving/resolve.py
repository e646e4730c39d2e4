"""Resolve a release spec: load every document it names, refuse all that is wrong at once, and give it its id.

`python -m serving.resolve SPEC` prints the resolved release as JSON, the one parameter of the pipeline; exit code 2
says that a document is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from serving.contracts.data_contract import DataContract
from serving.contracts.load import DocumentError, Problem, dotted, load_document
from serving.contracts.release_spec import ReleaseSpec, ResolvedRelease
from serving.contracts.strict_yaml import YamlFault, read_yaml
from serving.files import digest_bytes
from serving.git_command import GitError, run_git
from serving.release_checks import Finding, contract_findings, spec_findings
from serving.source_content import digest_data, digest_weights

DocumentT = TypeVar("DocumentT", bound=BaseModel)

UNVERSIONED = "unversioned"
_ID_HEX = 12


def resolve_release(spec_path: Path, *, attempt: int = 1) -> ResolvedRelease:
    """Load a release spec and its data contract, check what one document says about another, and name the release.

    The id is `<model>-<12 hex>` of the canonical spec, contract and attempt, and of the bytes of data and weights that
    they name by path; where the files lie and comments do not count. A moving reference such as `models:/x@stable`
    counts as written: release it again as the next attempt.

    Args:
        spec_path: Path of the spec.
        attempt: Counts from 1; another number releases the same content once more.

    Raises:
        DocumentError: Lists every problem of every document.
    """
    path = spec_path.absolute()
    problems: list[Problem] = []
    spec = _load(path, ReleaseSpec, problems)
    contract_path = _contract_path(path, spec)
    contract = _load(contract_path, DataContract, problems) if contract_path else None
    if spec is not None:
        problems += _place(path, spec_findings(spec.spec, base=path.parent))
        if contract is not None and contract_path is not None:
            problems += _place(path, contract_findings(spec.spec, contract))
            problems += _place(contract_path, _missing_data(contract, contract_path.parent))
    if problems:
        raise DocumentError(problems)
    assert spec is not None
    assert contract is not None
    assert contract_path is not None
    data, weights = _digest_sources(path, spec, contract_path, contract)
    text = _canonical(spec, contract, attempt, data=data, weights=weights)
    return ResolvedRelease(
        release_id=f"{spec.spec.model}-{digest_bytes(text.encode()).removeprefix('sha256:')[:_ID_HEX]}",
        attempt=attempt,
        git_revision=git_revision(path),
        spec_digest=digest_bytes(_canonical(spec).encode()),
        data_digest=data,
        weights_digest=weights,
        base_path=str(path.parent),
        name=spec.metadata.name,
        spec=spec.spec,
        contract=contract,
    )


def git_revision(path: Path) -> str:
    """Return the commit of the repository that holds a file.

    `+dirty` is added when anything tracked in it is modified or the file itself is not tracked; `unversioned` outside
    git and before the first commit.
    """
    folder = ("-C", str(path.parent))
    try:
        revision = run_git(*folder, "rev-parse", "--verify", "--quiet", "HEAD").strip()
        changes = run_git(*folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none")
        tracked = run_git(*folder, "ls-files", "--", path.name)
    except GitError:
        return UNVERSIONED
    return f"{revision}+dirty" if changes.strip() or not tracked.strip() else revision


def _load(path: Path, model: type[DocumentT], problems: list[Problem]) -> DocumentT | None:
    try:
        return load_document(path, model)
    except DocumentError as exc:
        problems.extend(exc.problems)
        return None


def _contract_path(path: Path, spec: ReleaseSpec | None) -> Path | None:
    """Find the contract's path, also in a spec that was refused, so that both documents' problems are listed."""
    name = spec.spec.data_contract if spec is not None else None
    if spec is None:
        try:
            data, _ = read_yaml(path.read_bytes())
            name = data["spec"]["data_contract"]
        except (YamlFault, OSError, KeyError, TypeError):
            return None
    return path.parent / name if isinstance(name, str) and name else None


def _missing_data(contract: DataContract, folder: Path) -> list[Finding]:
    source = contract.spec.source.path
    if source is None:
        return []
    missing = [f"{split}.jsonl" for split in contract.spec.splits if not (folder / source / f"{split}.jsonl").is_file()]
    text = f"expected a file for each split in {folder / source}; missing: {', '.join(missing)}"
    return [(("spec", "source", "path"), text)] if missing else []


def _place(path: Path, findings: list[Finding]) -> list[Problem]:
    """Give findings the lines of their paths; a path that is not written (a default) gets its nearest parent's."""
    if not findings:
        return []
    _, lines = read_yaml(path.read_bytes())
    problems = []
    for where, message in findings:
        known = where
        while known and known not in lines:
            known = known[:-1]
        problems.append(Problem(str(path), lines.get(known, 1), dotted(where), message))
    return problems


def _digest_sources(
    path: Path, spec: ReleaseSpec, contract_path: Path, contract: DataContract
) -> tuple[str | None, str | None]:
    """Digest the data and the weights that the documents name by path; None for what comes from elsewhere.

    Raises:
        DocumentError: Some of it cannot be read.
    """
    data, weights = contract.spec.source.path, spec.spec.source.path
    sources: list[tuple[Path, str | None, Callable[[Path], str]]] = [
        (contract_path, data, lambda folder: digest_data(folder, contract.spec.splits)),
        (path, weights, digest_weights),
    ]
    digests: list[str | None] = []
    problems: list[Problem] = []
    for file, source, digest in sources:
        try:
            digests.append(None if source is None else digest(file.parent / source))
        except OSError as exc:
            text = f"expected readable files; {exc.filename}: {exc.strerror}: correct the path or its permissions"
            problems += _place(file, [(("spec", "source", "path"), text)])
    if problems:
        raise DocumentError(problems)
    return digests[0], digests[1]


def _canonical(
    spec: ReleaseSpec,
    contract: DataContract | None = None,
    attempt: int | None = None,
    *,
    data: str | None = None,
    weights: str | None = None,
) -> str:
    """Write documents in one normal form; a digest stands for the path that it is the content of."""
    written: Any = spec.model_dump(mode="json")
    promised: Any = contract.model_dump(mode="json") if contract else None
    for document, digest in ((written, weights), (promised, data)):
        if digest is not None:
            document["spec"]["source"]["path"] = digest
    return json.dumps([written, promised, attempt], sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def main(arguments: list[str] | None = None) -> int:
    """Print the resolved release of the spec that is named; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        sys.stderr.write("expected one argument, the path of a release spec: python -m serving.resolve SPEC\n")
        return 2
    try:
        release = resolve_release(Path(given[0]))
    except DocumentError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sys.stdout.write(release.model_dump_json(indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
