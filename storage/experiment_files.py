"""An experiment's status in the catalogue's files: one word changed, all else as its authors wrote it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from decisioning.errors import DataError


class Written(NamedTuple):
    """Where a status stands: `text[begin:end]` of the file."""

    path: Path
    text: str
    begin: int
    end: int

    def write(self, status: str) -> None:
        """Let it say another status."""
        self._put(self.text[: self.begin] + status + self.text[self.end :])

    def restore(self) -> None:
        """Let the file be what it was."""
        self._put(self.text)

    def _put(self, text: str) -> None:
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_bytes(text.encode())
        part.replace(self.path)


def status_of(folder: Path, experiment_id: str) -> Written:
    """Where the files of this catalogue say what the experiment's status is.

    Raises:
        DataError: They say it nowhere, or in several places.
    """
    found = [written for path in sorted(folder.rglob("*.yaml")) for written in _in_file(path, experiment_id)]
    if len(found) != 1:
        places = ", ".join(str(each.path) for each in found) or f"no file in {folder}"
        raise DataError(
            f"the status of experiment '{experiment_id}' stands in {places}, must stand in one place; stop it by hand",
            where=str(folder),
        )
    return found[0]


def _in_file(path: Path, experiment_id: str) -> Iterator[Written]:
    text = path.read_bytes().decode()  # line ends as they are
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for listed in _values(root, "experiments"):
        for entry in listed.value if isinstance(listed, yaml.SequenceNode) else ():
            if any(each.value == experiment_id for each in _values(entry, "id")):
                for status in _values(entry, "status"):
                    yield Written(path, text, status.start_mark.index, status.end_mark.index)


def _values(node: yaml.Node | None, name: str) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                yield value
