"""InferenceService documents: built, written, read back, and refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from serving.contracts.load import DocumentError
from serving.contracts.release_spec import EngineName, EngineSettings
from serving.release_documents import to_yaml
from serving.runtimes.inference_schema import parse_args
from serving.runtimes.inference_service import ServedService, build_inference_service, load_inference_service

DIGEST = "sha256:" + "a" * 64
ENGINE = EngineSettings(
    arguments={
        "max-model-len": 256,
        "enforce-eager": True,
        "chat-template": "{% for m in ms %}{{ m['x'] }}: \"é\"{% endfor %}",
    },
    env={"B": "2", "A": "1"},
    ready_timeout_seconds=90,
)


def build(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "service": "m-1",
        "model": "m",
        "release_id": "m-123",
        "storage_uri": "file:///models/a%20b",
        "weights_digest": DIGEST,
        "engine": ENGINE,
    }
    return build_inference_service(**{**fields, **changes})


def parse(document: dict[str, Any]) -> ServedService:
    return load_inference_service(to_yaml(document), source="InferenceService")


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(build())
    *parents, last = path.split("/")
    place: Any = document
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def test_round_trip() -> None:
    """What was built is read back, arguments as text."""
    service = parse(build())
    assert (service.name, service.model, service.release_id) == ("m-1", "m", "m-123")
    assert service.weights_digest == DIGEST
    assert service.folder == Path("/models/a b")
    assert service.engine.name is EngineName.VLLM
    assert service.engine.ready_timeout_seconds == 90
    assert service.engine.env == {"A": "1", "B": "2"}
    assert service.engine.arguments == {
        "max-model-len": "256",
        "enforce-eager": True,
        "chat-template": ENGINE.arguments["chat-template"],
        "shutdown-timeout": "30",
    }


def test_built_again_from_what_was_read() -> None:
    """Reading and building are inverse: the document is the same to the byte."""
    service = parse(build())
    again = build(engine=service.engine)
    assert to_yaml(again) == to_yaml(build())


def test_written_without_anchors_and_in_order() -> None:
    """YAML for people and for Argo CD: no anchors, keys as built."""
    text = to_yaml(build())
    assert "&id" not in text
    assert text.index("apiVersion") < text.index("kind") < text.index("metadata") < text.index("spec")


def test_grace_leaves_time_to_drain() -> None:
    """preStop and the engine's own drain fit into the pod's grace period."""
    predictor = build()["spec"]["predictor"]
    stop = int(predictor["model"]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert (
        stop + int(parse_args(predictor["model"]["args"])["shutdown-timeout"])
        < predictor["terminationGracePeriodSeconds"]
    )


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"service": "m-2"}, True),
        ({"release_id": "m-9"}, True),
        ({"engine": ENGINE.model_copy(update={"ready_timeout_seconds": 5.0})}, True),
        ({"model": "n"}, False),
        ({"storage_uri": "file:///other"}, False),
        ({"weights_digest": "sha256:" + "b" * 64}, False),
        ({"engine": EngineSettings()}, False),
        ({"engine": ENGINE.model_copy(update={"env": {}})}, False),
    ],
)
def test_spec_digest_is_what_matters_to_the_engine(changes: Any, same: bool) -> None:
    """A clone under another name has the same digest; another chat template, say, has not."""
    assert (parse(build(**changes)).spec_digest == parse(build()).spec_digest) is same


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("spec/predictor/minReplicas", 3, "minReplicas 3"),
        ("spec/predictor/minReplicas", 0, "minReplicas 0"),
        ("spec/predictor/maxReplicas", 5, "autoscaling up to 5"),
        ("spec/predictor/tolerations", [{"key": "gpu"}], "tolerations"),
        ("spec/predictor/model/image", "x@sha256:1", "image"),
        ("spec/predictor/model/env", [{"name": "S", "valueFrom": {"secretKeyRef": {}}}], "variable S"),
    ],
)
def test_what_one_machine_cannot_give_is_listed(path: str, value: Any, expected: str) -> None:
    """Nothing is dropped in silence."""
    listed = parse(changed(path, value)).not_applied
    assert any(expected in line for line in listed), listed
    assert any("nvidia.com/gpu" in line for line in listed)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("apiVersion", "v1", "apiVersion"),
        ("kind", "Deployment", "kind"),
        ("metadata/name", "Not A Name", "metadata.name"),
        ("metadata/labels", {}, "nexus/model"),
        ("metadata/annotations/nexus~1weights-digest", None, "nexus/weights-digest"),
        ("spec/predictor/minreplicas", 1, "minreplicas"),
        ("spec/predictor/model/storageUrl", "x", "storageUrl"),
        ("spec/predictor/model/storageUri", None, "storageUri"),
        ("spec/predictor/model/args", ["--a=1"], "served-model-name"),
        ("spec/predictor/model/args", ["-tp=2"], "long option"),
        ("spec/predictor/model/args", ["--served-model-name=m", "--a=1", "--a=2"], "once"),
        ("spec/predictor/model/modelFormat/name", "triton", "modelFormat"),
        ("spec/transformer", {"containers": []}, "transformer"),
    ],
)
def test_broken_documents_are_refused(path: str, value: Any, expected: str) -> None:
    """Unknown keys, missing ones and wrong values: all refused, with the place."""
    document = build()
    if "~1" in path:
        del document["metadata"]["annotations"]["nexus/weights-digest"]
    else:
        document = changed(path, value)
    with pytest.raises(DocumentError, match=expected):
        parse(document)


def test_refusal_names_file_and_line() -> None:
    """The reader of the message can go straight to the line."""
    text = to_yaml(build()).replace("storageUri", "storageUrl")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "storageUrl" in row)
    with pytest.raises(DocumentError) as caught:
        load_inference_service(text, source="services/m-1.yaml")
    assert f"services/m-1.yaml:{line}" in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("file:///a/b", Path("/a/b")),
        ("file://localhost/a", Path("/a")),
        ("/a/b", Path("/a/b")),
        ("s3://bucket/a", None),
        ("file://host/a", None),
        ("relative/a", None),
    ],
)
def test_folder_of_a_storage_uri(uri: str, folder: Path | None) -> None:
    """Local places are found, others are none."""
    assert parse(build(storage_uri=uri)).folder == folder


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["--a"], {"a": True}),
        (["--a=1", "--b", "2", "--c"], {"a": "1", "b": "2", "c": True}),
        (["--a="], {"a": ""}),
        (["--a", "-1"], {"a": "-1"}),
    ],
)
def test_command_lines_are_read_as_people_write_them(words: list[str], options: dict[str, Any]) -> None:
    """Both spellings of a value are understood."""
    assert parse_args(words) == options
