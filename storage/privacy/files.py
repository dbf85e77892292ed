"""Files of the state directory that may name a person: rejected rows, marks of files read, benchmarks."""

import json
import mmap
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from decisioning.erased import visitor_ids
from storage.ingested import FOLDER
from storage.settings import Settings


class NamingFiles:
    """What files say of one person, by all their ids."""

    def __init__(self, settings: Settings, units: Collection[str]) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._names = {*units, *visitor_ids(units)}
        self._bytes = [name.encode() for name in self._names]

    def parts(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Rows of theirs that could not be taken in, as an export shows them."""
        for path in self._rejects():
            yield f"rejected.{path.name}", (row for _, _, row in self._lines(path))

    def erase(self) -> Counter[str]:
        """Overwrite those rows, and delete what was only kept to save time; again finds nothing."""
        done: Counter[str] = Counter()
        for path in self._rejects():
            # In place: a run that is under way may be adding to the file.
            with path.open("r+b") as file:
                for at, line, _ in list(self._lines(path)):
                    file.seek(at)
                    file.write(b" " * (len(line) - 1) + b"\n")
                    done["rejected_rows"] += 1
                file.flush()
                os.fsync(file.fileno())
        home = self._settings.home
        notes = [*(home / FOLDER).glob("*.json"), *self._settings.feast_dir.glob("*.ingested.json")]
        left = [*(home / FOLDER).glob("*.part"), *self._settings.feast_dir.glob("**/*.part")]
        for path in (*notes, *left):
            if self._names_them(path):
                path.unlink(missing_ok=True)
                done["notes"] += 1
        for entry in sorted(self._settings.bench_dir.glob("*")):
            if any(self._names_them(path) for path in (entry.glob("**/*") if entry.is_dir() else [entry])):
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
                done["benchmarks"] += 1
        return +done

    def _rejects(self) -> list[Path]:
        return sorted((self._settings.home / FOLDER).glob("*.jsonl"))

    def _lines(self, path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        """Where each of their lines begins, the line, and what it says."""
        at = 0
        with path.open("rb") as file:
            for line in file:
                if any(name in line for name in self._bytes) and self._is_theirs(row := _decoded(line)):
                    yield at, line, row
                at += len(line)

    def _is_theirs(self, row: dict[str, Any]) -> bool:
        return any(str(value) in self._names for value in row.values())

    def _names_them(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size == 0:
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in self._bytes)


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}
