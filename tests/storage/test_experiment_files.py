"""One word of a catalogue's file is changed, and nothing else of it."""

from pathlib import Path

import pytest

from decisioning.errors import DataError
from storage.experiment_files import status_of

FILE = """\
# Anna's
experiments:\r
  - {id: other, status: draft}
  - status: 'running'   # since spring: status: running
    variants: [{id: hero}, {id: ü}]
    id: hero
actions: [{id: hero, status: live}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "a.yaml").write_bytes(FILE.encode())
    (tmp_path / "global" / "b.yaml").write_text("# nothing\n")
    (tmp_path / "global" / "c.yaml").write_text("experiments: [{id: hero, owner: ann}]\n")
    return tmp_path


def test_only_the_status_of_the_experiment_changes(folder: Path) -> None:
    path = folder / "global" / "a.yaml"
    written = status_of(folder, "hero")
    written.write("stopped")
    assert path.read_bytes().decode() == FILE.replace("'running'", "stopped")
    written.restore()
    assert path.read_bytes().decode() == FILE
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.yaml", "b.yaml", "c.yaml"]


def test_a_status_that_stands_nowhere_or_twice_is_left_to_a_person(folder: Path) -> None:
    with pytest.raises(DataError, match="stands in no file"):
        status_of(folder, "nobody")
    (folder / "markets" / "de").mkdir(parents=True)
    (folder / "markets" / "de" / "all.yaml").write_text("experiments: [{id: hero, status: running}]\n")
    with pytest.raises(DataError, match="must stand in one place"):
        status_of(folder, "hero")
