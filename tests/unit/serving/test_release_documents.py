import pytest
import yaml

from serving.contracts.load import parse_document
from serving.contracts.model_version import ModelVersion
from serving.contracts.observation import Side
from serving.contracts.route import Route
from serving.release_documents import (
    MAX_MODEL_NAME,
    baseline_name,
    canary_route,
    first_route,
    kustomization,
    serves,
    service_name,
    single_route,
    to_yaml,
    version_document,
)
from tests.fakes.releases import MODEL, make_registration, make_release

KUBERNETES_LABEL = 63
PREDICTOR_SUFFIX = "-predictor"


def test_names_differ_by_release_weights_and_engine() -> None:
    """Nothing that changes what is served shares a service with what was served before."""
    release = make_release(1)
    names = {
        service_name(release, "sha256:a"),
        service_name(release, "sha256:b"),
        service_name(make_release(2), "sha256:a"),
        service_name(make_release(1, arguments={"max-num-seqs": 9}), "sha256:a"),
    }
    assert len(names) == 4
    assert service_name(release, "sha256:a") == service_name(make_release(1), "sha256:a")


def test_longest_name_is_a_dns_label() -> None:
    """The clone of a model with the longest name still fits with KServe's suffix."""
    stable = "m" * MAX_MODEL_NAME + "-01234567"
    assert len(baseline_name(stable, "release") + PREDICTOR_SUFFIX) <= KUBERNETES_LABEL


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (f"{MODEL}-01234567", True),
        (f"{MODEL}-01234567-b0123", True),
        (f"{MODEL}-2-01234567", False),
        (f"{MODEL}-0123456", False),
        (MODEL, False),
        ("", False),
    ],
)
def test_services_of_another_model_are_not_ours(service: str, expected: bool) -> None:
    """A model whose name starts like ours keeps its engines."""
    assert serves(MODEL, service) is expected


@pytest.mark.parametrize(("weight", "stable"), [(0, 100), (5, 90), (25, 50), (50, 0)])
def test_canary_route_shares_equally(weight: int, stable: int) -> None:
    """Candidate and baseline get the weight each, the stable service the rest."""
    route = canary_route(MODEL, "release", stable="s", baseline="b", candidate="c", weight=weight)
    found = {e.side: (e.service, e.weight_percent) for e in route.spec.endpoints}
    assert found == {Side.STABLE: ("s", stable), Side.BASELINE: ("b", weight), Side.CANDIDATE: ("c", weight)}
    assert route.spec.release_id == "release"


@pytest.mark.parametrize("weight", [-1, 51, 100])
def test_canary_weight_is_bounded(weight: int) -> None:
    """More than half would leave the baseline less than the candidate."""
    with pytest.raises(ValueError, match="0 to 50"):
        canary_route(MODEL, "release", stable="s", baseline="b", candidate="c", weight=weight)


ROUTE_TEXT = """apiVersion: nexus/v1alpha1
kind: Route
metadata:
  name: support-assistant
  labels: {}
spec:
  model: support-assistant
  release_id: release
  endpoints:
  - service: c
    side: candidate
    weight_percent: 100
  sticky_by: user
  fallbacks: []
"""
VERSION_TEXT = """apiVersion: nexus/v1alpha1
kind: ModelVersion
metadata:
  name: support-assistant
  labels: {}
spec:
  model: support-assistant
  release_id: support-assistant-000000000001
  service: support-assistant-6799c200
  registry_version: '1'
  storage_uri: file:///models/1
  weights_digest: sha256:0000000000000000000000000000000000000000000000000000000000000001
  engine:
    name: vllm
    arguments:
      chat-template: '{% if a %}

        ''ä: #''{% endif %}'
      max-num-seqs: 4
    env: {}
    ready_timeout_seconds: 240.0
"""


def test_documents_read_back_as_they_were_written() -> None:
    """YAML of every document is the text written down here, and parses strictly into the same document."""
    release = make_release(1, arguments={"chat-template": "{% if a %}\n'ä: #'{% endif %}", "max-num-seqs": 4})
    version = version_document(release, make_registration(release))
    route = first_route(MODEL, "release", "c")
    for document, model, text in [(version, ModelVersion, VERSION_TEXT), (route, Route, ROUTE_TEXT)]:
        assert to_yaml(document) == text
        assert parse_document(text, model, source="x") == document
    single = single_route(MODEL, "s")
    assert "release_id" not in to_yaml(single)
    assert parse_document(to_yaml(single), Route, source="x") == single


def test_kustomization_lists_services_and_is_never_empty() -> None:
    """kustomize refuses an empty file, so without services there is none."""
    assert kustomization([]) is None
    assert yaml.safe_load(kustomization(["b", "a"]))["resources"] == ["services/a.yaml", "services/b.yaml"]
