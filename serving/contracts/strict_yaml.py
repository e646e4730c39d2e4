"""YAML as our documents use it: what JSON can say, with comments, anchors and line numbers, and no surprises.

Refused: tags, keys that are not text, a key that stands twice, more than one document, and anything that grows beyond
its text (aliases count each time they are used). Only `true` and `false` are booleans, only decimal numbers are
numbers (no octal, sexagesimal, infinity), and dates and `<<` are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

YamlPath = tuple[str | int, ...]
Lines = dict[YamlPath, int]
"""Path of every value -> the line it starts on, counted from 1."""

MAX_NODES = 20_000
"""A hundred times our largest document."""

MAX_DEPTH = 64
_MAX_DIGITS = 400
"""Of a number: more than any double has; Python itself refuses to parse beyond 4,300."""

_TAG = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_STARTS = list("+-.0123456789")


@dataclass(frozen=True)
class Place:
    """One fault: `line` counts from 1; `path` is empty for the whole document."""

    line: int
    path: YamlPath
    message: str


class YamlFault(Exception):  # noqa: N818 - carries a list of faults, which `load` turns into its own error
    """The text is not what this module reads; `places` lists every fault found."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        super().__init__("; ".join(f"line {place.line}: {place.message}" for place in places))


class _Loader(yaml.SafeLoader):
    """Composes nodes and counts them while it does, so that a bomb is refused before it is held."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own class table

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem=_TOO_MUCH, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_TOO_MUCH = f"expected at most {MAX_NODES} values and depth {MAX_DEPTH}; got more"

for _name, _pattern, _first in (
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", _NUMBER_STARTS),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", _NUMBER_STARTS),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}str": str,
    f"{_TAG}int": int,
    f"{_TAG}float": float,
    f"{_TAG}bool": {"true": True, "false": False}.__getitem__,
    f"{_TAG}null": lambda _: None,
}


def read_yaml(raw: bytes | str) -> tuple[Any, Lines]:
    """Parse one document into plain dicts, lists, text, numbers, booleans and None.

    Raises:
        YamlFault: It is no YAML, or uses what is refused here; all faults of the second kind are listed.
    """
    node = _compose(_decode(raw))
    if node is None:
        raise YamlFault([Place(1, (), "expected a document; got an empty file")])
    build = _Build()
    data = build.value(node, ())
    if build.faults:
        raise YamlFault(build.faults)
    return data, build.lines


def _decode(raw: bytes | str) -> str:
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise YamlFault([Place(line, (), f"expected UTF-8; got {exc.reason} at byte {exc.start}")]) from exc


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
            return node
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = str(exc.problem or exc.context)
        if "but found another document" in problem:
            problem = "expected one document; got another after `---`: keep each in a file of its own"
        elif not problem.startswith("expected"):
            problem = f"expected YAML; {problem}"
        raise YamlFault([Place(mark.line + 1 if mark else 1, (), problem)]) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise YamlFault([Place(line, (), f"expected printable text; got the character {exc.character:#x}")]) from exc
    except (ValueError, OverflowError) as exc:  # PyYAML's scanner lets chr() and int() fail on escapes and directives
        raise YamlFault([Place(1, (), f"expected YAML; got a malformed escape or directive ({exc})")]) from exc


class _Build:
    """Builds values from nodes, and collects lines and faults on the way."""

    def __init__(self) -> None:
        self.faults: list[Place] = []
        self.lines: Lines = {}
        self._values = 0

    def value(self, node: yaml.Node, path: YamlPath) -> Any:
        """Build one value; None stands for what is at fault."""
        self._values += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        if self._values > MAX_NODES or len(path) > MAX_DEPTH:
            if not any(fault.message == _TOO_MUCH for fault in self.faults):
                self._fault(node, path, _TOO_MUCH)
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, path)
        self._fault(node, path, f"expected plain YAML; got the tag {node.tag!r}")
        return None

    def _mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else f"a {key_node.id}"
                self._fault(key_node, path, f"expected text as a key; got {shown}: put it in quotes")
                continue
            key = self._text(key_node, path)
            if key in out:
                self._fault(key_node, (*path, key), "expected each key once; got it again")
                continue
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            out[key] = self.value(value_node, (*path, key))
        return out

    def _scalar(self, node: yaml.ScalarNode, path: YamlPath) -> Any:
        text = self._text(node, path)
        if node.tag != f"{_TAG}str" and len(text) > _MAX_DIGITS:
            self._fault(node, path, f"expected a number of at most {_MAX_DIGITS} characters; got {len(text)}")
            return None
        try:
            return _SCALARS[node.tag](text)
        except (ValueError, KeyError):
            self._fault(node, path, f"expected a value that fits its tag {node.tag!r}; got {text[:80]!r}")
            return None

    def _text(self, node: yaml.ScalarNode, path: YamlPath) -> str:
        """Return a scalar's text, in which an escape may have put half a character."""
        text = str(node.value)
        if not text.isascii() and _SURROGATE.search(text):
            self._fault(node, path, f"expected whole characters; got half a surrogate pair in {text[:80]!r}")
        return text

    def _fault(self, node: yaml.Node, path: YamlPath, message: str) -> None:
        self.faults.append(Place(node.start_mark.line + 1, path, message))
