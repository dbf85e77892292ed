"""A YAML file as plain values that still know which line they came from.

Keys that stand twice in a mapping are mistakes here; YAML's own loaders keep the last one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_STEP = re.compile(r"\[\.{3}\]|\[([^\]]*)\]|([^.\[\]]+)")


class YamlMistake(Exception):
    """What is wrong with the file, one `file:line: sentence` each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class YamlFile:
    """One parsed file.

    Attributes:
        name: For messages.
        values: Its top-level mapping; empty for an empty file.

    Raises:
        YamlMistake: It cannot be read, is not YAML or not a mapping, or has a key twice.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        try:
            loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
            self._root: yaml.Node | None = loader.get_single_node()
            twice = [] if self._root is None else list(self._keys_used_twice(self._root, set()))
            if twice:
                raise YamlMistake(twice)
            self.values: dict[str, Any] = {} if self._root is None else loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise YamlMistake([f"{name}{line}: is not YAML: {error.problem or error.context}"]) from error
        except (OSError, UnicodeDecodeError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise YamlMistake([f"{name}: cannot be read as YAML: {reason}"]) from error
        if not isinstance(self.values, dict) or not all(isinstance(key, str) for key in self.values):
            raise YamlMistake([f"{name}:1: holds {type(self.values).__name__}, must hold keys like `actions:`"])

    def at(self, path: str) -> str:
        """`file:line` of the deepest part of `path` that the file has.

        A path is written like `actions[3].value` or, by an item's id, `actions[gold_card].value`.
        """
        node = self._root
        line = 0 if node is None else node.start_mark.line
        for match in _STEP.finditer(path):
            found = _child(node, match.group(1) if match.group(2) is None else match.group(2))
            if found is None:
                break
            line, node = found
        return f"{self.name}:{line + 1}"

    def _keys_used_twice(self, node: yaml.Node, seen: set[int]) -> Iterator[str]:
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            return
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from self._keys_used_twice(item, seen)
            return
        first: dict[Any, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, line) != line:
                yield f"{self.name}:{line}: '{key.value}' stands twice, first in line {first[key.value]}"
            yield from self._keys_used_twice(value, seen)


def _child(node: yaml.Node | None, step: str) -> tuple[int, yaml.Node] | None:
    """The line and node of a mapping's key, or of a sequence's item by place or id."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            if str(place) == step or _id_of(item) == step:
                return item.start_mark.line, item
    return None


def _id_of(node: yaml.Node) -> str | None:
    found = _child(node, "id") if isinstance(node, yaml.MappingNode) else None
    return found[1].value if found else None
