"""What is deleted is gone from the disk: logs are emptied, files replaced as a whole, lines overwritten."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from decisioning.errors import StoreError

# A try holds up whoever writes, so it is short; the next one comes when others have had their turn.
PATIENCE = timedelta(milliseconds=100)
PAUSE = timedelta(milliseconds=400)
TRIES = 60


def emptied(path: Path) -> None:
    """Move a database's write-ahead log into it and empty the log, which still has what was deleted.

    Raises:
        StoreError: Others read or write it all the time; try again later.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE.total_seconds(), isolation_level=None)) as connection:
            for _ in range(TRIES):
                [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                if not busy:
                    return
                time.sleep(PAUSE.total_seconds())
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be used: {error}") from error
    raise StoreError(f"the log of {path} cannot be emptied, since others use it all the time; it is tried again")


def replaced(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file anew so that it is there completely, the old one or the new one, even after a power cut."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
