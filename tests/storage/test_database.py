"""The ledger's database is created, migrated and refused as it should be, on SQLite and on PostgreSQL."""

import io
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select

from decisioning.errors import SetupError, StoreError
from storage.ledger.database import MIGRATIONS, migrate, open_ledger, reading, writing
from storage.ledger.reader import LedgerReader
from storage.ledger.rows import event_row
from storage.ledger.tables import REVISION, events, metadata
from storage.settings import Settings
from tests.storage.kept import event
from tests.storage.processes import Say, others


def alembic_config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def postgresql_script() -> str:
    """What the migrations would run on PostgreSQL, as Alembic writes it without a connection."""
    output = io.StringIO()
    config = alembic_config(output)
    config.set_main_option("dialect", "postgresql")
    command.upgrade(config, "head", sql=True)
    return output.getvalue()


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == REVISION


def test_the_migrations_lead_to_the_tables_that_the_code_uses(settings: Settings) -> None:
    with reading(open_ledger(settings)) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_what_aliases_of_an_older_ledger_named_is_found_by_the_index(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    engine = create_engine(f"sqlite:///{settings.ledger_path}")
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        told = (event("shop/1", type="alias", previous_id="old"), event("shop/2", properties={"previous_id": "x"}))
        for each in told:
            columns = [*event_row(each, "shop", "digest")]
            del columns[7]  # what the revision adds
            connection.exec_driver_sql(f"INSERT INTO events VALUES (NULL{', ?' * len(columns)})", tuple(columns))
    engine.dispose()
    with reading(open_ledger(settings)) as connection:
        found = connection.execute(select(events.c.event_id).where(events.c.previous_id.is_not(None))).all()
        assert found == [("shop/1",)]


def test_connections_are_durable_and_leave_checkpoints_to_the_writer(settings: Settings) -> None:
    with reading(open_ledger(settings)) as connection:
        pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint", "foreign_keys", "busy_timeout")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas}

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "wal_autocheckpoint": 0,
        "foreign_keys": 0,
        "busy_timeout": 5000,
    }


def test_migrating_again_changes_nothing(settings: Settings) -> None:
    migrate(settings)
    before = settings.ledger_path.read_bytes()

    migrate(settings)

    assert settings.ledger_path.read_bytes() == before


def test_processes_that_start_at_once_all_find_a_ledger(settings: Settings) -> None:
    def open_it(say: Say) -> None:
        say(LedgerReader(settings).counts().decisions)

    with others(*[open_it] * 4) as openers:
        assert [lines.read() for _, lines in openers] == ["0\n"] * 4


def test_a_ledger_of_a_newer_version_is_left_alone(settings: Settings) -> None:
    migrate(settings)
    connection = sqlite3.connect(settings.ledger_path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(SetupError, match="is of revision 9999, this version knows 0006 and older; install the newer"):
        LedgerReader(settings)


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_one_clear_line(content: bytes, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.ledger_path.write_bytes(content)

    with pytest.raises(SetupError, match=r"ledger\.db cannot be opened: .*; restore it from a backup") as raised:
        migrate(settings)

    assert "\n" not in raised.value.message
    assert settings.ledger_path.read_bytes() == content


def test_a_home_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(SetupError, match="it is not a directory"):
        open_ledger(Settings(home=tmp_path / "home"))


def test_a_transaction_that_fails_leaves_nothing(settings: Settings) -> None:
    engine = open_ledger(settings)

    def write() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO blobs VALUES ('a', x'00')")
            connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreError, match="cannot be written: no such table"):
        write()

    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM blobs").scalar() == 0


def test_the_schema_is_written_for_postgresql_too() -> None:
    script = postgresql_script()

    assert script.count("BIGSERIAL") == 9
    assert "BYTEA" in script


def psql(database: str, sql: str) -> "subprocess.CompletedProcess[str]":
    where = ["--host", os.environ.get("PGHOST", "localhost"), "--username", os.environ.get("PGUSER", "postgres")]
    options = ["--no-password", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
    environment = {"PGCONNECT_TIMEOUT": "5", **os.environ}
    return subprocess.run(
        ["psql", *where, *options, "--dbname", database], input=sql, env=environment, capture_output=True, text=True
    )


@pytest.mark.services
def test_the_schema_stands_on_a_real_postgresql() -> None:
    reason = "psql is not installed" if shutil.which("psql") is None else psql("postgres", "SELECT 1").stderr.strip()
    if reason:
        assert os.environ.get("NEXTMOVE_REQUIRE_SERVICES") != "1", reason
        pytest.skip(f"PostgreSQL on localhost:5432 cannot be used: {reason}")
    database = f"nextmove_test_{os.getpid()}"
    assert psql("postgres", f"CREATE DATABASE {database}").stderr == ""
    try:
        migrated = psql(database, postgresql_script())
        tables = psql(database, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        numbered = psql(database, "INSERT INTO pointers (name, sha256, at, reason) VALUES ('a', 'b', 1, 'c')")
    finally:
        psql("postgres", f"DROP DATABASE {database}")

    assert (migrated.stderr, numbered.stderr) == ("", "")
    assert set(tables.stdout.split()) == {*metadata.tables, "alembic_version"}
