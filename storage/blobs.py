"""Content-addressed bytes (bundles, catalogues) and the named pointers to them.

They live in the ledger's database, so that replicas on other machines follow; what was read once
is kept on disk.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import sqlite

from decisioning.errors import StoreError
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import blobs, pointers
from storage.settings import Settings


class Pointing(NamedTuple):
    """A pointer's value, since when, and why."""

    sha256: str
    at: datetime
    reason: str


class BlobStore:
    """Bytes by their SHA-256, and what the current ones are."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger's database, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)
        self._cache = settings.bundles_dir

    def put(self, content: bytes) -> str:
        """Keep the content and return its SHA-256; keeping it twice changes nothing."""
        sha256 = hashlib.sha256(content).hexdigest()
        with writing(self._engine) as connection:
            statement = sqlite.insert(blobs).values(sha256=sha256, content=content)
            connection.execute(statement.on_conflict_do_nothing())
        return sha256

    def get(self, sha256: str) -> bytes:
        """The content, verified: a damaged copy on disk is replaced.

        Raises:
            StoreError: It is not in the store, or the store cannot be read, or is damaged.
        """
        copy = self._cache / sha256
        with suppress(OSError):
            content = copy.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        with reading(self._engine) as connection:
            found = connection.execute(select(blobs.c.content).where(blobs.c.sha256 == sha256)).scalar()
        if found is None:
            raise StoreError(f"no bundle or catalogue has the hash {sha256}; publish it again")
        if hashlib.sha256(found).hexdigest() != sha256:
            raise StoreError(f"the content of {sha256} is damaged; restore the ledger from a backup")
        _write_whole(copy, found)
        return found

    def pointer(self, name: str) -> str | None:
        """What the name points to now, or None."""
        newest = select(pointers.c.sha256).where(pointers.c.name == name).order_by(pointers.c.seq.desc()).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(newest).scalar()

    def point(self, name: str, sha256: str, *, now: datetime, reason: str) -> None:
        """Let the name point to this content from now on.

        Raises:
            StoreError: The content is not in the store, or the store cannot be written.
        """
        with writing(self._engine) as connection:
            known = connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256)).scalar()
            if known is not None:
                row = {"name": name, "sha256": sha256, "at": to_microseconds(now), "reason": reason}
                connection.execute(pointers.insert().values(row))
        if known is None:
            raise StoreError(f"'{name}' cannot point to {sha256}: no such bundle or catalogue was published")

    def history(self, name: str) -> list[Pointing]:
        """Everything that the name pointed to, oldest first; the last one is current."""
        query = select(pointers.c.sha256, pointers.c.at, pointers.c.reason)
        with reading(self._engine) as connection:
            rows = connection.execute(query.where(pointers.c.name == name).order_by(pointers.c.seq)).all()
        return [Pointing(row.sha256, from_microseconds(row.at), row.reason) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def _write_whole(path: Path, content: bytes) -> None:
    """Write so that no reader ever sees half a file; a cache that cannot be written is no error."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
