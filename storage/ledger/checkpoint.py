"""SQLite's write-ahead log is moved into the database file, away from the path of any answer.

A checkpoint of 2,000 decisions takes 20 ms. Left to SQLite it would run inside a commit.
"""

import sqlite3
import threading
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

PAUSE = timedelta(milliseconds=100)
PATIENCE = timedelta(milliseconds=100)  # with readers, while writers wait
# Under constant load the log is never empty at the instant a write begins, so SQLite never starts
# it anew; past this many pages (256 MB) writers are made to wait for a moment.
PAGES_BEFORE_RESTART = 65_536


class Checkpointer:
    """A thread that checkpoints soon after something was written, at most ten times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._written = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nextmove-checkpoint", daemon=True)
        self._thread.start()

    def written(self) -> None:
        """Something was committed."""
        self._written.set()

    def close(self) -> None:
        """Stop; SQLite itself makes the last checkpoint when the last connection closes."""
        self._stopped.set()
        self._written.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._written.wait()
            if self._stopped.wait(PAUSE.total_seconds()):
                return
            self._written.clear()
            try:
                self._checkpoint()
            except (sqlite3.Error, SQLAlchemyError):
                continue  # the log keeps everything; the next write brings the next attempt

    def _checkpoint(self) -> None:
        connection = self._engine.raw_connection()
        connection.detach()  # its short patience must not pass on to others
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {PATIENCE // timedelta(milliseconds=1)}")
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
            [(_, pages, _)] = cursor.fetchall()
            if pages > PAGES_BEFORE_RESTART:
                cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        finally:
            connection.close()
