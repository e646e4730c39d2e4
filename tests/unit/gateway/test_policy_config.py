from __future__ import annotations

from pathlib import Path

import pytest

from gateway.folder_signature import signature_of
from serving.contracts.load import DocumentError
from serving.contracts.policy_folder import ParseCache, read_folder

POLICY = "kind: GatewayPolicy\nmetadata: {name: gateway}\nspec: {}\n"
ROUTE = """kind: Route
metadata: {name: m}
spec:
  model: m
  endpoints:
    - {service: m-1, side: stable, weight_percent: 100}
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in ({"policy": POLICY} | files).items():
        path = tmp_path / ("policy.yaml" if name == "policy" else f"routes/{name}.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_good_folder_is_read_whole(tmp_path: Path) -> None:
    """A folder gives its revision, without the line end, and its routes."""
    (tmp_path / "REVISION").write_text("abc\n")
    documents = read_folder(folder(tmp_path, m=ROUTE), ParseCache())
    assert documents.revision == "abc"
    assert [route.spec.model for route in documents.routes] == ["m"]


def test_before_the_first_release_there_are_no_routes_and_no_revision(tmp_path: Path) -> None:
    """A policy alone is enough: there are no routes and no revision."""
    documents = read_folder(folder(tmp_path), ParseCache())
    assert (documents.revision, documents.routes) == (None, ())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"policy": ""}, "policy.yaml:1: expected a document; got an empty file"),
        ({"policy": "kind: ["}, "policy.yaml:1"),
        ({"policy": POLICY.replace("{}", "{timeout: 3}")}, "unknown key"),
        ({"policy": POLICY.replace("{}", "{request_limits: {max_body_bytes: 1}}")}, "greater than or equal to 1024"),
        ({"policy": POLICY.replace("GatewayPolicy", "Route")}, "input should be 'GatewayPolicy'"),
        ({"policy": POLICY.replace("{}", "{service_url_template: 'http://x'}")}, "pattern"),
        ({"policy": POLICY.replace("{}", "{service_url_template: 'https://{service}'}")}, "pattern"),
        ({"m": ROUTE.replace("100}", "99}")}, "weights must sum to 100; got 99"),
        ({"m": ROUTE.replace("100}", "-1}")}, "greater than or equal to 0"),
        ({"m": ROUTE.replace("stable", "primary")}, "spec.endpoints[0].side"),
        ({"m": ROUTE.replace("m-1", "m_1")}, "pattern"),
        ({"m": ROUTE + "extra: 1\n"}, "m.yaml:7: extra: unknown key"),
        ({"m": ROUTE.replace("  model: m\n", "")}, "expected this key; it is missing"),
        ({"m": "\x00"}, "m.yaml:1"),
        ({"m": ROUTE, "n": ROUTE}, "expected one route for the model 'm'; m.yaml has it too"),
        ({"policy": "kind: x", "m": "kind: y"}, "m.yaml"),
    ],
)
def test_a_bad_document_is_refused_with_file_and_reason(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    """A broken policy or route is refused, and the message names the file, the line or the key, and the reason."""
    with pytest.raises(DocumentError) as refused:
        read_folder(folder(tmp_path, **files), ParseCache())
    assert expected in str(refused.value)


def test_a_missing_policy_or_folder_is_refused(tmp_path: Path) -> None:
    """A folder without a policy, and a folder that is not there, are refused by the file that cannot be read."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DocumentError, match=r"policy.yaml.*cannot be read"):
            read_folder(path, ParseCache())


@pytest.mark.parametrize("text", ["\n\x07", "a\x07b", "x" * 129, "caf\xe9"])
def test_a_revision_that_could_break_a_log_line_is_refused(tmp_path: Path, text: str) -> None:
    """A revision with control characters, too many characters or non-ASCII ones is refused."""
    (tmp_path / "REVISION").write_text(text)
    with pytest.raises(DocumentError, match="REVISION"):
        read_folder(folder(tmp_path), ParseCache())


def test_unchanged_documents_are_not_parsed_again(tmp_path: Path) -> None:
    """A second reading returns the same object for an untouched route and a new one for a changed route."""
    cache = ParseCache()
    path = folder(tmp_path, m=ROUTE, n=ROUTE.replace("model: m", "model: n"))
    first = read_folder(path, cache)
    (path / "routes/n.yaml").write_text(ROUTE.replace("model: m", "model: k"))
    second = read_folder(path, cache)
    assert second.routes[0] is first.routes[0]
    assert second.routes[1].spec.model == "k"


def test_no_text_of_a_document_is_kept(tmp_path: Path) -> None:
    """The cache knows a document by a digest, however long its text: held texts are given back all at once."""
    cache = ParseCache()
    read_folder(folder(tmp_path, m=ROUTE + "#" * 10_000), cache)
    assert {len(key) for _, key in cache.documents} == {32}


def test_a_signature_changes_with_content_names_and_link(tmp_path: Path) -> None:
    """Looking twice gives one signature; an edit, a removal, a lost link and a swapped one each give another."""
    link = tmp_path / "current"
    for name in "ab":
        (tmp_path / name).mkdir()
        folder(tmp_path / name, m=ROUTE)
    link.symlink_to("a")
    seen = [signature_of(link)]
    assert seen[0].same_as(signature_of(link))
    (tmp_path / "a/routes/m.yaml").write_text(ROUTE + "\n")
    seen.append(signature_of(link))
    (tmp_path / "a/routes/m.yaml").unlink()
    seen.append(signature_of(link))
    link.unlink()
    seen.append(signature_of(link))
    link.symlink_to("b")
    seen.append(signature_of(link))
    assert all(not a.same_as(b) for at, a in enumerate(seen) for b in seen[at + 1 :])
