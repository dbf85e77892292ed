"""A YAML file as values that know which line they came from.

Keys that stand twice in a mapping are mistakes here; YAML's own loaders keep the last one. Keys are
always texts: YAML 1.1 reads `on:` as the truth value.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Aliases of aliases can stand for billions of values; a catalogue of 500 actions has about 20,000.
MAX_VALUES = 100_000
MAX_DEPTH = 40
MAX_BYTES = 4_000_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_MERGE = "tag:yaml.org,2002:merge"
_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class YamlMistake(Exception):
    """What is wrong with the file, one `file:line: sentence` each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        at: `file:line`; of a mapping's value, that of its key.
        value: A scalar, or a `dict` or `list` of nodes.
        written: A scalar as the file has it.
    """

    at: str
    value: Any
    written: str = ""

    @property
    def identity(self) -> str | None:
        """The `id` of an entry, if it has one."""
        said = self.value.get("id") if isinstance(self.value, dict) else None
        return said.value if said is not None and isinstance(said.value, str) else None


def read_yaml(path: Path, *, name: str) -> Node:
    """The file's top-level mapping; an empty one for an empty file.

    Raises:
        YamlMistake: It cannot be read, is not YAML or not a mapping, has a key twice, or holds what a
            catalogue cannot: more values than anybody writes, infinite numbers, binary data.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise YamlMistake([f"{name}: has more than {MAX_BYTES:,} bytes; split it into several files"])
        loader = _LOADER(path.read_text(encoding="utf-8"))
        try:
            root = loader.get_single_node()
            reading = _Reading(loader, name)
            node = Node(f"{name}:1", {}) if root is None else reading.node(root, f"{name}:1", 0, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise YamlMistake([f"{name}{line}: is not YAML: {error.problem or error.context}"]) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise YamlMistake([f"{name}: cannot be read as YAML: {reason}"]) from error
    if reading.mistakes:
        raise YamlMistake(reading.mistakes)
    if not isinstance(node.value, dict):
        raise YamlMistake([f"{name}:1: holds {type_name(node.value)}, must hold keys like `actions:`"])
    return node


def plain(node: Node) -> Any:
    """The value without its lines."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def line_of(root: Node, path: str) -> str:
    """`file:line` of the deepest part of `path` that is there.

    A path is written like `actions[3].value` or, by an entry's id, `actions[gold_card].value`.
    """
    node = root
    for bracket, name in _STEP.findall(path):
        found = _child(node, bracket or name)
        if found is None:
            break
        node = found
    return node.at


def type_name(value: Any) -> str:
    """What a value is, in words for people.

    >>> type_name(None), type_name([1]), type_name("x")
    ('nothing', 'a list', 'a text')
    """
    if value is None:
        return "nothing"
    words = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "keys"}
    return words.get(type(value), f"a {type(value).__name__}")


def _child(node: Node, step: str) -> Node | None:
    if isinstance(node.value, dict):
        found: Node | None = node.value.get(step)
        return found
    if isinstance(node.value, list):
        for place, item in enumerate(node.value):
            if step in (str(place), item.identity):
                return item
    return None


class _Reading:
    """Turns YAML's nodes into ours, within limits, and collects what cannot be used."""

    def __init__(self, loader: Any, name: str) -> None:
        self.mistakes: list[str] = []
        self._loader = loader
        self._name = name
        self._left = MAX_VALUES

    def node(self, node: yaml.Node, at: str, depth: int, within: tuple[int, ...]) -> Node:
        self._left -= 1
        if self._left < 0:
            raise YamlMistake([f"{self._name}: has more than {MAX_VALUES:,} values, aliases included; write fewer"])
        if id(node) in within:
            raise YamlMistake([f"{at}: contains itself, by an alias"])
        if depth > MAX_DEPTH:
            raise YamlMistake([f"{at}: is nested more than {MAX_DEPTH} deep"])
        if isinstance(node, yaml.ScalarNode):
            return Node(at, self._scalar(node, at), node.value)
        if node.tag not in _PLAIN_TAGS:
            self.mistakes.append(f"{at}: is not YAML that a catalogue may use: the tag {node.tag}")
            return Node(at, None)
        within = (*within, id(node))
        if isinstance(node, yaml.MappingNode):
            return Node(at, dict(self._pairs(node, depth, within)))
        return Node(at, [self.node(item, self._at(item), depth + 1, within) for item in node.value])

    def _pairs(self, node: yaml.MappingNode, depth: int, within: tuple[int, ...]) -> Iterator[tuple[str, Node]]:
        first: dict[str, int] = {}
        merged: list[tuple[str, Node]] = []
        own: list[tuple[str, Node]] = []
        for key, value in node.value:
            at, line = self._at(key), key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.append(f"{at}: is not YAML that a catalogue may use: a key must be a text")
            elif key.tag == _MERGE:
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):  # the first source wins
                    taken = self.node(source, self._at(source), depth + 1, within)
                    if isinstance(taken.value, dict):
                        merged += taken.value.items()
                    else:
                        self.mistakes.append(f"{at}: merges {type_name(taken.value)}, must merge keys")
            elif key.value in first:
                self.mistakes.append(f"{at}: '{key.value}' stands twice, first in line {first[key.value]}")
            else:
                first[key.value] = line
                own.append((self._text(key.value, at), self.node(value, at, depth + 1, within)))
        yield from merged
        yield from own

    def _scalar(self, node: yaml.ScalarNode, at: str) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError) as error:
            self.mistakes.append(f"{at}: is not YAML: '{node.value[:60]}': {error}")
            return None
        if isinstance(value, str):
            return self._text(value, at)
        if isinstance(value, float) and not math.isfinite(value):
            self.mistakes.append(f"{at}: is {node.value}, must be a finite number")
            return None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self.mistakes.append(f"{at}: is {node.value[:60]}, which is too large a number")
            return None
        if isinstance(value, bytes):
            self.mistakes.append(f"{at}: holds binary data, must be a text")
            return None
        return value

    def _text(self, value: str, at: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.mistakes.append(f"{at}: holds half of a character (a lone surrogate), write it whole")
            return ""
        return value

    def _at(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"
