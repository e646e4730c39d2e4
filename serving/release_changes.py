"""What each transition changes on the head it is shown: files to write and files to delete.

Pure but for reading the head; `release_state` commits the result.
"""

from __future__ import annotations

from serving import layout
from serving import release_documents as documents
from serving import release_history as history
from serving.contracts.model_version import ModelVersion
from serving.contracts.registration import Registration
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.route import Route
from serving.gitops import Snapshot

Files = dict[str, str | None]


def add_candidate(head: Snapshot, release: ResolvedRelease, registration: Registration, environment: str) -> Files:
    """Add the candidate at 0 % and, where there is a stable version, its clone and the route that names all three."""
    model, release_id = release.spec.model, release.release_id
    candidate = documents.version_document(release, registration)
    new = {candidate.spec.service: candidate}
    files: Files = {}
    stable = history.version_at(head, model, environment)
    if stable is not None:
        baseline = documents.baseline_name(stable.spec.service, release_id)
        new[baseline] = stable
        route = documents.canary_route(
            model,
            release_id,
            stable=stable.spec.service,
            baseline=baseline,
            candidate=candidate.spec.service,
            weight=0,
        )
        current = history.route_at(head, model, environment)
        files[layout.route_path(model, environment)] = documents.to_yaml(_with_rules(route, current))
    for name, version in new.items():
        document = documents.service_document(version, service=name, release_id=release_id)
        files[layout.service_path(model, environment, name)] = documents.to_yaml(document)
    services = {*history.services_at(head, model, environment), *new}
    files[layout.kustomization_path(model, environment)] = documents.kustomization(services)
    return files


def weighted_route(head: Snapshot, release_id: str, *, model: str, environment: str, weight: int) -> Files | None:
    """Write the route of a canary step; None when it is there already.

    A first release has no stable version to share with: its one step is 100 percent.

    Raises:
        NotDeployedError: The services or the route of the release are not in git.
        ValueError: The weight fits neither a canary step nor a first release.
    """
    route = history.route_at(head, model, environment)
    if history.version_at(head, model, environment) is None:
        services = history.services_at(head, model, environment)
        if len(services) != 1 or weight != 100:
            raise ValueError(f"expected one service at 100 percent in a first release; got {services} at {weight}")
        wanted = documents.first_route(model, release_id, services[0])
    else:
        if route is None or route.spec.release_id != release_id:
            raise history.NotDeployedError(
                f"expected a route of {model!r} that {release_id} is judged on; git has none: deploy it again"
            )
        names = {endpoint.side.value: endpoint.service for endpoint in route.spec.endpoints}
        wanted = documents.canary_route(model, release_id, weight=weight, **names)
    wanted = _with_rules(wanted, route)
    return None if wanted == route else {layout.route_path(model, environment): documents.to_yaml(wanted)}


def keep_one(head: Snapshot, model: str, environment: str, version: ModelVersion | None) -> Files:
    """Leave one version with all users and delete every other service; without a version nothing is left.

    The kept service is written anew when somebody took its document away, so that this always ends in a served model.
    """
    kept = {version.spec.service} if version else set()
    present = set(history.services_at(head, model, environment))
    files: Files = {layout.service_path(model, environment, name): None for name in present - kept}
    route = layout.route_path(model, environment)
    kustomization = layout.kustomization_path(model, environment)
    if version is None:
        return {**files, **{path: None for path in (route, kustomization) if head.read(path) is not None}}
    service = version.spec.service
    if service not in present:
        document = documents.service_document(version, service=service, release_id=version.spec.release_id)
        files[layout.service_path(model, environment, service)] = documents.to_yaml(document)
    files[kustomization] = documents.kustomization(kept)
    single = _with_rules(documents.single_route(model, service), history.route_at(head, model, environment))
    files[route] = documents.to_yaml(single)
    return files


def _with_rules(new: Route, current: Route | None) -> Route:
    """Keep what people wrote into a route besides its endpoints: fallbacks, price, shadow, labels."""
    if current is None:
        return new
    moved = {"release_id": new.spec.release_id, "endpoints": new.spec.endpoints}
    return current.model_copy(update={"spec": current.spec.model_copy(update=moved)})
