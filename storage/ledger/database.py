"""The one place where the ledger's database is opened and brought up to date."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from decisioning.errors import SetupError, StoreError
from storage.ledger.tables import REVISION
from storage.settings import Settings, prepare_home

BUSY_TIMEOUT = timedelta(seconds=5)
MIGRATIONS = Path(__file__).parent / "migrations"


def open_ledger(settings: Settings, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> Engine:
    """An engine on the ledger, created or migrated first where needed.

    Connections do not checkpoint by themselves: that would happen in the middle of a commit that
    an answer waits for. The writer does it between commits, SQLite when the last one closes.

    Raises:
        SetupError: The state directory or the file cannot be used, or is of a newer version.
    """
    migrate(settings)
    engine = _engine(settings, busy_timeout)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A read that later writes cannot wait for its turn, so writers say so at the start.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the ledger.

    Raises:
        StoreError: The ledger cannot be read.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"the ledger cannot be read: {first_line(error)}") from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is committed at the end, or leaves nothing.

    Raises:
        StoreError: The ledger cannot be written; nothing was.
    """
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"the ledger cannot be written: {first_line(error)}") from error


def migrate(settings: Settings) -> None:
    """Create the ledger, or bring it to this version; processes that start at once wait for each other.

    Raises:
        SetupError: The state directory or the file cannot be used, or is of a newer version.
    """
    prepare_home(settings)
    try:
        if _revision(settings.ledger_path) == REVISION:
            return
        with _alone(settings):
            _upgrade(settings)
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise SetupError(
            f"the ledger {settings.ledger_path} cannot be opened: {first_line(error)};"
            " restore it from a backup, or set NEXTMOVE_HOME to another directory",
            where=str(settings.ledger_path),
        ) from error


def first_line(error: BaseException) -> str:
    """The database's own sentence, without SQLAlchemy's statement and links."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def _upgrade(settings: Settings) -> None:
    # Imported here: most starts find the newest revision and need not pay for Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    found = _revision(settings.ledger_path)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SetupError(
            f"the ledger {settings.ledger_path} is of revision {found}, this version knows {REVISION} and older;"
            " install the newer version, or set NEXTMOVE_HOME to another directory",
            where=str(settings.ledger_path),
        )
    engine = _engine(settings, BUSY_TIMEOUT)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()


def _revision(path: Path) -> str | None:
    """What Alembic noted in the file; None for a file that it never saw, or that is not there."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT.total_seconds())) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
    return row[0] if row else None


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    with (settings.home / "ledger.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _engine(settings: Settings, busy_timeout: timedelta) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(settings.ledger_path)),
        connect_args={"isolation_level": None, "check_same_thread": False},  # transactions are begun by us
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout // timedelta(milliseconds=1)}")
        cursor.execute(f"PRAGMA synchronous = {settings.ledger_synchronous}")
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file
        cursor.execute("PRAGMA wal_autocheckpoint = 0")
        cursor.close()

    return engine
