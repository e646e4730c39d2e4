"""Every bad document is refused with file, line and path; nothing but DocumentError ever leaves the loader."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from serving.contracts.base import StrictModel
from serving.contracts.load import MAX_DOCUMENT_BYTES, DocumentError, load_document, parse_document
from serving.contracts.release_spec import ReleaseSpec

MANIFESTS = Path(__file__).resolve().parents[4] / "manifests"


class Part(StrictModel):
    """A nested part."""

    count: int = Field(default=1, ge=1)
    on: bool = False


class Shape(StrictModel):
    """A small document with every kind of value."""

    name: str
    ratio: float = 1.0
    parts: tuple[Part, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    note: str | None = None


def problems(raw: bytes | str) -> list[str]:
    """Return what is wrong with a document, as people read it."""
    with pytest.raises(DocumentError) as caught:
        parse_document(raw, Shape, source="doc.yaml")
    return str(caught.value).splitlines()


BAD: dict[str, tuple[bytes | str, list[str]]] = {
    "empty": ("", ["doc.yaml:1: expected a document; got an empty file"]),
    "only a comment": ("# nothing\n", ["doc.yaml:1: expected a document; got an empty file"]),
    "null": ("null", ["doc.yaml:1: input should be an object; got nothing"]),
    "a list": ("- a\n- b\n", ["doc.yaml:1: input should be an object"]),
    "missing key": ("ratio: 2\n", ["doc.yaml:1: name: expected this key; it is missing"]),
    "unknown key": (
        "name: a\nparts:\n  - count: 1\n    cuont: 2\n",
        ["doc.yaml:4: parts[0].cuont: unknown key; remove it or correct its spelling"],
    ),
    "wrong type": (
        "name: a\nparts:\n  - on: true\n  - count: 1.5\n",
        ["doc.yaml:4: parts[1].count: input should be a valid integer; got 1.5"],
    ),
    "out of range": (
        "name: a\nparts: [{count: 0}]\n",
        ["doc.yaml:2: parts[0].count: input should be greater than or equal to 1; got 0"],
    ),
    "several at once": (
        "name: [a]\nratio: x\nextra: 1\n",
        [
            "doc.yaml:1: name: input should be a valid string",
            "doc.yaml:2: ratio: input should be a valid number; got 'x'",
            "doc.yaml:3: extra: unknown key; remove it or correct its spelling",
        ],
    ),
    "duplicate key": ("name: a\nratio: 1\nname: b\n", ["doc.yaml:3: name: expected each key once; got it again"]),
    "duplicate keys, all listed": (
        "name: a\nname: b\nparts: [{count: 1, count: 2}]\n",
        [
            "doc.yaml:2: name: expected each key once; got it again",
            "doc.yaml:3: parts[0].count: expected each key once; got it again",
        ],
    ),
    "number as key": (
        "name: a\nlabels:\n  1: x\n",
        ["doc.yaml:3: labels: expected text as a key; got '1': put it in quotes"],
    ),
    "null as key": ("name: a\n~: x\n", ["doc.yaml:2: expected text as a key; got '~': put it in quotes"]),
    "boolean as key": ("name: a\ntrue: x\n", ["doc.yaml:2: expected text as a key; got 'true': put it in quotes"]),
    "sequence as key": (
        "name: a\n? [x, y]\n: 1\n",
        ["doc.yaml:2: expected text as a key; got a sequence: put it in quotes"],
    ),
    "mapping as key": (
        "name: a\n? {x: y}\n: 1\n",
        ["doc.yaml:2: expected text as a key; got a mapping: put it in quotes"],
    ),
    "text is no number": (
        "name: a\nratio: 1:30\n",
        ["doc.yaml:2: ratio: input should be a valid number; got '1:30'"],
    ),
    "quoted number": ('name: a\nratio: "5"\n', ["doc.yaml:2: ratio: input should be a valid number; got '5'"]),
    "boolean is no number": ("name: a\nratio: true\n", ["doc.yaml:2: ratio: input should be a valid number; got True"]),
    "quoted boolean": (
        "name: a\nparts: [{on: 'true'}]\n",
        ["doc.yaml:2: parts[0].on: input should be a valid boolean; got 'true'"],
    ),
    "word of YAML 1.1 is no boolean": (
        "name: a\nparts: [{on: yes}]\n",
        ["doc.yaml:2: parts[0].on: input should be a valid boolean; got 'yes'"],
    ),
    "number is no boolean": (
        "name: a\nparts:\n  - on: 1\n    count: true\n",
        [
            "doc.yaml:3: parts[0].on: input should be a valid boolean; got 1",
            "doc.yaml:4: parts[0].count: input should be a valid integer; got True",
        ],
    ),
    "fraction-like whole number": (
        "name: a\nparts: [{count: 2.0}]\n",
        ["doc.yaml:2: parts[0].count: input should be a valid integer; got 2.0"],
    ),
    "number where a label's text stands": (
        "name: a\nlabels:\n  x: 1\n",
        ["doc.yaml:3: labels.x: input should be a valid string; got 1"],
    ),
    "number is no text": ("name: 12\n", ["doc.yaml:1: name: input should be a valid string; got 12"]),
    "infinity": ("name: a\nratio: inf\n", ["doc.yaml:2: ratio: input should be a valid number; got 'inf'"]),
    "overflow": ("name: a\nratio: 1e999\n", ["doc.yaml:2: ratio: input should be a finite number; got inf"]),
    "merge key": (
        "name: a\nparts:\n  - &p {count: 2}\n  - <<: *p\n",
        ["doc.yaml:4: parts[1].<<: unknown key; remove it or correct its spelling"],
    ),
    "object tag": (
        "name: !!python/object/apply:os.system [id]\n",
        ["doc.yaml:1: name: expected plain YAML; got the tag 'tag:yaml.org,2002:python/object/apply:os.system'"],
    ),
    "binary tag": (
        "name: !!binary aGk=\n",
        ["doc.yaml:1: name: expected plain YAML; got the tag 'tag:yaml.org,2002:binary'"],
    ),
    "local tag": ("name: a\nparts: !env X\n", ["doc.yaml:2: parts: expected plain YAML; got the tag '!env'"]),
    "tag of another shape": (
        "name: !!map a\n",
        ["doc.yaml:1: name: expected plain YAML; got the tag 'tag:yaml.org,2002:map'"],
    ),
    "tag that does not fit": (
        "name: a\nratio: !!float x\n",
        ["doc.yaml:2: ratio: expected a value that fits its tag 'tag:yaml.org,2002:float'; got 'x'"],
    ),
    "huge number": (
        f"name: a\nratio: {'9' * 5000}\n",
        ["doc.yaml:2: ratio: expected a number of at most 400 characters; got 5000"],
    ),
    "two documents": (
        "name: a\n---\nname: b\n",
        ["doc.yaml:2: expected one document; got another after `---`: keep each in a file of its own"],
    ),
    "syntax": ("name: a\nparts: [1, 2\n", ["doc.yaml:3: expected ',' or ']', but got '<stream end>'"]),
    "tab": (
        "name: a\nparts:\n\t- 1\n",
        ["doc.yaml:3: expected YAML; found character '\\t' that cannot start any token"],
    ),
    "undefined alias": ("name: *nobody\n", ["doc.yaml:1: expected YAML; found undefined alias 'nobody'"]),
    "alias of itself": (
        "name: a\nparts: &p [*p]\n",
        [f"doc.yaml:2: parts{'[0]' * 64}: expected at most 20000 values and depth 64; got more"],
    ),
    "deep": ("name: " + "[" * 500, ["doc.yaml:1: expected at most 20000 values and depth 64; got more"]),
    "many values": (
        "name: [" + "a," * 20_500 + "]",
        ["doc.yaml:1: expected at most 20000 values and depth 64; got more"],
    ),
    "not UTF-8": (b"name: a\nnote: \xff\xfe\n", ["doc.yaml:2: expected UTF-8; got invalid start byte at byte 14"]),
    "control character": (b"name: a\nnote: \x00\n", ["doc.yaml:2: expected printable text; got the character 0x0"]),
    "impossible escape": (
        'name: "\\U00110000"\n',
        ["doc.yaml:1: expected YAML; got a malformed escape or directive (chr() arg not in range(0x110000))"],
    ),
    "half a character": (
        'name: a\nnote: "\\ud800"\n',
        ["doc.yaml:2: note: expected whole characters; got half a surrogate pair in '\\ud800'"],
    ),
    "odd key": (
        'name: a\n"\\e[31m\\u2028": 1\n',
        ["doc.yaml:2: \\x1b[31m\\u2028: unknown key; remove it or correct its spelling"],
    ),
    "odd value": (
        'name: a\nratio: "\\e[31m"\n',
        ["doc.yaml:2: ratio: input should be a valid number; got '\\x1b[31m'"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_document_is_refused_with_line_and_path(case: str) -> None:
    """Each problem is one line: file, line, path, what was expected and what came."""
    raw, expected = BAD[case]
    assert problems(raw) == expected


def test_alias_bomb_is_refused_before_it_is_built() -> None:
    """Nine levels of nine aliases are a billion values; the loader counts each use and stops."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert len(problems("\n".join(levels))) == 1
    assert problems("\n".join(levels))[0].endswith("expected at most 20000 values and depth 64; got more")


YAML_WORDS = [
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "True",
    "FALSE",
    "Null",
    "2026-03-01",
    "010",
    "0x1F",
    "1_000",
    "1:30",
    "=",
    "<<",
]


@pytest.mark.parametrize("word", YAML_WORDS)
def test_words_that_yaml_1_1_converts_stay_text(word: str) -> None:
    """A name that looks like a boolean, date or odd number is a name."""
    assert parse_document(f"name: {word}\n", Shape, source="x").name == word


class Colour(StrEnum):
    """A closed set of names."""

    RED = "red"


class Rich(StrictModel):
    """Values that JSON has no types for."""

    colour: Colour
    shades: dict[Colour, float]
    pair: tuple[int, float]
    kind: Literal["a", "b"]
    folder: Path
    at: datetime
    value: str | int | float | bool


def test_what_json_has_no_type_for_is_read_from_its_usual_form() -> None:
    """A whole number is a float, text names a member, a path or a time, a list is a tuple; a union keeps its types."""
    text = "{colour: red, shades: {red: 1}, pair: [1, 2], kind: b, folder: /a, at: '2026-03-01T09:00:00Z', value: %s}"
    for written, value in (("1", 1), ("true", True), ("1.5", 1.5), ('"1"', "1")):
        read = parse_document(text % written, Rich, source="x")
        assert (read.value, type(read.value)) == (value, type(value))
    at = datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert read == Rich(
        colour=Colour.RED, shades={Colour.RED: 1.0}, pair=(1, 2.0), kind="b", folder=Path("/a"), at=at, value="1"
    )
    assert Rich.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize(
    "raw", ['{"name": "a", "ratio": "5"}', '{"name": "a", "ratio": true}', '{"name": "a", "parts": [{"on": 1}]}']
)
def test_our_own_json_is_read_as_strictly(raw: str) -> None:
    """A record or policy that is read without a file name guesses no types either."""
    with pytest.raises(ValidationError):
        Shape.model_validate_json(raw)


def test_good_documents_mean_what_they_say() -> None:
    """Numbers, null, quotes, comments, anchors, JSON and a byte-order mark are read."""
    text = (
        "name: &n a # comment\nratio: -1.5e3\nnote: null\nlabels: {b: *n, 'c': \"1\"}\nparts: [{count: 3, on: true}]\n"
    )
    expected = Shape(name="a", ratio=-1500, labels={"b": "a", "c": "1"}, parts=(Part(count=3, on=True),))
    assert parse_document(text, Shape, source="x") == expected
    assert parse_document(b"\xef\xbb\xbf" + text.encode(), Shape, source="x") == expected
    assert parse_document(expected.model_dump_json(), Shape, source="x") == expected


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("models/*/*.yaml")), ids=lambda path: path.name)
def test_our_own_releases_are_read(path: Path) -> None:
    """Every release spec in the repository fits its contract."""
    if "kind: Release" in path.read_text():
        assert load_document(path, ReleaseSpec).spec.recipes


def test_files_that_cannot_be_read_name_the_reason(tmp_path: Path) -> None:
    """A missing file, a folder, an impossible name and a huge file are problems like any other."""
    (tmp_path / "huge.yaml").write_bytes(b"# " + b"x" * MAX_DOCUMENT_BYTES)
    expected = {
        "missing.yaml": " expected a readable file; got: No such file or directory: name the document's file",
        ".": " expected a readable file; got: Is a directory: name the document's file",
        "a\0b": " expected a readable file; got: embedded null byte",
        "huge.yaml": f"1: expected at most {MAX_DOCUMENT_BYTES} bytes; got more",
    }
    for name, message in expected.items():
        with pytest.raises(DocumentError) as caught:
            load_document(tmp_path / name, Shape)
        assert str(caught.value) == f"{tmp_path / name}:{message}"


WORDS = (
    "name ---\n ...\n << ~ \\x \\U00110000 é 1e9 0x . %YAML_9.9\n %TAG_!_x\n !< !!int_ !!str_ &a_ *a :_ -_ ?_ |_ >_ # %"
)
FRAGMENTS = st.sampled_from([*(word.replace("_", " ") for word in WORDS.split(" ")), *"\n \t,[]{}'\"\u2028"])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), st.lists(FRAGMENTS, max_size=30).map("".join)))
def test_arbitrary_input_raises_nothing_but_document_errors(raw: bytes | str) -> None:
    """Whatever a file holds, the caller gets a document or a DocumentError that can be printed."""
    with contextlib.suppress(DocumentError):
        parse_document(raw, Shape, source="doc.yaml")


@given(st.text(alphabet=st.characters(), max_size=20), st.text(max_size=20))
def test_messages_can_always_be_printed(key: str, value: str) -> None:
    """Odd characters of a document are escaped where a message repeats them."""
    raw = json.dumps({"name": "a", key: value, "ratio": value})
    with contextlib.suppress(DocumentError):
        parse_document(raw, Shape, source="doc.yaml")
        return
    assert all(line.isprintable() for line in problems(raw))
