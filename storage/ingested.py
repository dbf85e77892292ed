"""How far files were taken in, so that a run can go on where another ended; and the rows that could not be used.

Nothing here is needed for an event to be counted once: that is the ledger's doing. What is lost here costs time.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import msgspec

from decisioning.errors import SetupError
from storage.event_batches import Checkpoint, Rejected
from storage.event_mapping import EventMapping
from storage.settings import Settings

FOLDER = "ingested"


class _Noted(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file was taken in; `witness` is the last event of it, which the ledger must still have."""

    file: str
    rows: int
    digest: str
    witness: str | None


class Ingested:
    """What was taken in by one mapping for one source, whatever the files are called and wherever they are.

    A file is known by what it says: one that has grown since goes on where it ended then.
    """

    def __init__(self, settings: Settings, mapping: EventMapping, *, source: str) -> None:
        """Nothing is read yet."""
        scope = "\n".join((settings.domain, source, mapping.digest)).encode()
        self._folder = settings.home / FOLDER
        self._scope = hashlib.blake2b(scope, digest_size=8).hexdigest()
        self._path: Path | None = None

    def known(self, *, in_ledger: Callable[[str], bool]) -> list[Checkpoint]:
        """Where files ended, as far as the ledger still has what they told."""
        return [
            Checkpoint(noted.rows, noted.digest)
            for _, noted in self._all()
            if noted.witness is None or in_ledger(noted.witness)
        ]

    def go_on(self, after: Checkpoint | None) -> None:
        """What is noted next stands for the file that was read up to here; None: for a new one."""
        found = (path for path, noted in self._all() if after == Checkpoint(noted.rows, noted.digest))
        self._path = next(found, self._folder / f"{self._scope}-{secrets.token_hex(4)}.json")

    def note(self, checkpoint: Checkpoint, *, file: str, witness: str | None) -> None:
        """Everything up to here is in the ledger and in hot state.

        Raises:
            SetupError: The state directory cannot be written.
        """
        assert self._path is not None
        noted = _Noted(file=file, rows=checkpoint.rows, digest=checkpoint.digest, witness=witness)
        part = self._path.with_suffix(".part")
        try:
            self._folder.mkdir(exist_ok=True)
            part.write_bytes(msgspec.json.encode(noted))
            part.replace(self._path)
        except OSError as error:
            raise SetupError(f"{self._path} cannot be written: {error}", where=str(self._path)) from error

    def rejects(self, file: str, *, before: int | None) -> "RejectFile":
        """Where rows of this file go that cannot be used; those of earlier runs from rows `before` this one stay."""
        path = self._folder / f"{file}.{self._scope}.rejected.jsonl"
        return RejectFile(path, before=before)

    def _all(self) -> Iterable[tuple[Path, _Noted]]:
        for path in sorted(self._folder.glob(f"{self._scope}-*.json")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=_Noted)
            except (OSError, msgspec.MsgspecError):
                continue  # begun anew; the ledger knows what it has


class RejectFile:
    """Rows that could not be used, as JSON lines with what was wrong: once corrected, the same mapping reads them."""

    def __init__(self, path: Path, *, before: int | None) -> None:
        """Keep of an earlier run's what lies before this row; None: all."""
        self.path = path
        self.rows = 0
        path.parent.mkdir(exist_ok=True)
        if path.exists() and before is not None:
            part = path.with_suffix(".part")
            with path.open(encoding="utf-8") as earlier, part.open("w", encoding="utf-8") as rest:
                rest.writelines(line for line in earlier if _row(line) < before)
            part.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def add(self, rejected: Rejected) -> None:
        """All rows of one mistake."""
        mistake = rejected.mistake
        for row in rejected.rows:
            about = {"_row": row.number, "_wrong_row": mistake.row, "_column": mistake.column, "_mistake": mistake.said}
            self._file.write(json.dumps({**about, **row.values}, default=str) + "\n")
            self.rows += 1

    def flush(self) -> None:
        """Before it is noted that these rows were read."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        if self.path.stat().st_size == 0:
            self.path.unlink(missing_ok=True)


def _row(line: str) -> int:
    try:
        return int(json.loads(line)["_row"])
    except (ValueError, KeyError, TypeError):
        return 0
