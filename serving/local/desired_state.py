"""Desired state of this node, read from the GitOps repository at one commit.

A document that is broken, or that points at nothing, is refused with its reasons; its last good version in the
repository's history stands in for it. So what is served never depends on what this process remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from serving.contracts.base import Metadata
from serving.contracts.gateway_policy import GatewayPolicy, GatewayPolicyBody
from serving.contracts.load import DocumentError, Problem, parse_document
from serving.contracts.route import Route, RouteBody
from serving.gitops import Snapshot
from serving.layout import gateway_folder, policy_path, services_glob
from serving.runtimes.inference_service import ServedService, load_inference_service

_HISTORY = 20  # versions of one file that are tried before it is given up
DocumentT = TypeVar("DocumentT")


@dataclass(frozen=True)
class DesiredState:
    """What one commit asks for.

    Attributes:
        commit: The commit; None before the first one.
        services: InferenceServices by name.
        gateway_files: Texts of the gateway's folder, by name relative to it.
        problems: Why documents were refused, one line each.
        names_provider: Whether a route has an external provider's model.
    """

    commit: str | None
    services: Mapping[str, ServedService]
    gateway_files: Mapping[str, str]
    problems: tuple[str, ...]
    names_provider: bool


def read_desired(snapshot: Snapshot, environment: str) -> DesiredState:
    """Read every document of an environment.

    Raises:
        GitOpsError: The repository cannot be read.
    """
    reader = _Reader(snapshot)
    services = reader.services(environment)
    files = reader.gateway_files(environment, services)
    return DesiredState(snapshot.commit, services, files, tuple(reader.problems), reader.names_provider)


class _Reader:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.problems: list[str] = []
        self.names_provider = False

    def services(self, environment: str) -> dict[str, ServedService]:
        pattern = services_glob(environment)
        paths = [path for path in self._snapshot.paths("manifests/models") if PurePosixPath(path).match(pattern)]
        found: dict[str, ServedService] = {}
        for path in paths:
            service = self._good(path, _parse_service)
            if service is None:
                continue
            if service.name in found:
                problem = Problem(path, 1, "metadata.name", f"{service.name!r} stands in another file already")
                self.problems.append(str(problem))
                continue
            found[service.name] = service
        return found

    def gateway_files(self, environment: str, services: Mapping[str, ServedService]) -> dict[str, str]:
        def parse_route(path: str, text: str) -> str:
            route = _check_route(path, text, services)
            self.names_provider |= any(endpoint.provider_model is not None for endpoint in route.endpoints)
            return text

        policy = self._good(policy_path(environment), _parse_policy) or _default_policy(environment)
        files = {"policy.yaml": policy}
        folder = f"{gateway_folder(environment)}/routes"
        for path in self._snapshot.paths(folder):
            if path.endswith(".yaml"):
                text = self._good(path, parse_route)
                if text is not None:
                    files[f"routes/{PurePosixPath(path).name}"] = text
        return files

    def _good(self, path: str, parse: Callable[[str, str], DocumentT]) -> DocumentT | None:
        """Parse a file of the commit, or the newest version before it that can be parsed."""
        refused: list[Problem] = []
        found: DocumentT | None = None
        for text in self._versions(path):
            try:
                found = parse(path, text)
                break
            except DocumentError as exc:
                refused = refused or exc.problems
        instead = "nothing of it is in force" if found is None else "its last good version stays in force"
        self.problems.extend(f"{problem} ({instead})" for problem in refused)
        return found

    def _versions(self, path: str) -> Iterator[str]:
        text = self._snapshot.read(path)
        if text is None:
            return
        yield text
        repository, commit = self._snapshot.repository, self._snapshot.commit
        assert commit is not None, "a commit that holds a file exists"
        log = repository.git("log", f"--max-count={_HISTORY}", "--format=%H", commit, "--", path)
        for sha in log.split()[1:]:
            older = Snapshot(repository, sha).read(path)
            if older is not None:
                yield older


def _parse_service(path: str, text: str) -> ServedService:
    service = load_inference_service(text, source=path)
    if service.name != PurePosixPath(path).stem:
        raise DocumentError([Problem(path, 1, "metadata.name", f"expected the file's name; got {service.name!r}")])
    return service


def _parse_policy(path: str, text: str) -> str:
    parse_document(text, GatewayPolicy, source=path)
    return text


def _check_route(path: str, text: str, services: Mapping[str, ServedService]) -> RouteBody:
    route = parse_document(text, Route, source=path).spec
    problems = []
    if route.model != PurePosixPath(path).stem:
        problems.append(Problem(path, 1, "spec.model", f"expected the file's name; got {route.model!r}"))
    for number, endpoint in enumerate(route.endpoints):
        if endpoint.provider_model is not None:
            continue  # answered by the provider adapter; the service is only a name
        where = f"spec.endpoints[{number}].service"
        service = services.get(endpoint.service)
        if service is None:
            problems.append(Problem(path, 1, where, f"expected an InferenceService; {endpoint.service!r} is none"))
        elif service.model != route.model:
            text = f"expected a service of {route.model!r}; {endpoint.service!r} serves {service.model!r}"
            problems.append(Problem(path, 1, where, text))
    if problems:
        raise DocumentError(problems)
    return route


def _default_policy(environment: str) -> str:
    """Write the policy of a repository that has none: the contract's defaults."""
    policy = GatewayPolicy(kind="GatewayPolicy", metadata=Metadata(name=environment), spec=GatewayPolicyBody())
    return policy.model_dump_json(indent=2) + "\n"
