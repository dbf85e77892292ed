"""What SQLite's hot state holds on a person: shown, and erased."""

import secrets
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any

import msgspec

from decisioning.identity import Person, Ties
from storage.hot_state.schema import connect, transaction
from storage.settings import Settings

# Tables without a column `customer_id`. A test holds this against the schema.
WITHOUT_CUSTOMERS = {"paused", "spending", "erased", "replays", "written_since", "posteriors", "posterior_leases"}
BY_ANOTHER_NAME = {"versions", "claims"}
_WHOSE = "domain = ?1 AND customer_id IN (SELECT value FROM json_each(?2))"
_KEEP_CHARGE = "UPDATE contacts SET customer_id = ?3, decision_id = ?3, account_id = NULL"
_encode = msgspec.msgpack.Encoder().encode
_decode_ties = msgspec.msgpack.Decoder(Ties).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode


def parts(settings: Settings, units: Collection[str]) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Everything that is kept of these ids, table by table."""
    if not settings.hot_path.exists():
        return
    with closing(connect(settings.hot_path)) as connection:
        connection.row_factory = sqlite3.Row
        for table in customer_tables(connection):
            rows = connection.execute(f"SELECT * FROM {table} WHERE {_WHOSE}", _of(settings, units))  # noqa: S608
            yield table, ({name: _plain(row[name]) for name in row.keys()} for row in rows)  # noqa: SIM118


def erase(settings: Settings, units: Collection[str], *, linked: Collection[str], decisions: Collection[str]) -> int:
    """Delete everything of these ids, and how many rows there were; again finds nothing.

    `linked` are others' ids that links may name together with these. `decisions` are those of the person.
    """
    if not settings.hot_path.exists():
        return 0
    whose, done = _of(settings, units), 0
    with closing(connect(settings.hot_path)) as connection, transaction(connection):
        accounts = connection.execute(
            f"SELECT DISTINCT account_id FROM contacts WHERE {_WHOSE} AND account_id IS NOT NULL",  # noqa: S608
            whose,
        ).fetchall()
        for decision_id, slot in connection.execute(
            f"SELECT decision_id, slot FROM contacts WHERE {_WHOSE} AND charged AND state = 'confirmed'",  # noqa: S608
            whose,
        ).fetchall():
            _keep_charge(connection, whose, decision_id, slot)
        for table in customer_tables(connection):
            done += connection.execute(f"DELETE FROM {table} WHERE {_WHOSE}", whose).rowcount  # noqa: S608
        connection.execute(
            "DELETE FROM versions WHERE domain = ?1 AND whose = 'customer' AND id IN (SELECT value FROM json_each(?2))",
            whose,
        )
        connection.executemany(
            "UPDATE versions SET version = version + 1 WHERE domain = ? AND whose = 'account' AND id = ?",
            [(settings.domain, account_id) for (account_id,) in accounts],
        )
        connection.executemany("DELETE FROM claims WHERE decision_id = ?", [(each,) for each in decisions])
        done += _unlink(connection, settings, set(units), linked)
    return done


def customer_tables(connection: sqlite3.Connection) -> list[str]:
    """The tables with a row a customer, or several."""
    found = connection.execute(
        "SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c"
        " WHERE m.type = 'table' AND c.name = 'customer_id' ORDER BY m.name"
    )
    return [name for (name,) in found]


def _keep_charge(connection: sqlite3.Connection, whose: tuple[str, str], decision_id: str, slot: int) -> None:
    """Money that was spent stays spent, whoever it was for."""
    name = f"erased:{secrets.token_hex(8)}"
    connection.execute(
        f"{_KEEP_CHARGE} WHERE {_WHOSE} AND decision_id = ?4 AND slot = ?5",
        (*whose, name, decision_id, slot),
    )


def _unlink(connection: sqlite3.Connection, settings: Settings, units: set[str], linked: Collection[str]) -> int:
    changed = 0
    for one in linked:
        row = connection.execute(
            "SELECT ties, person FROM identities WHERE domain = ? AND customer_id = ?", (settings.domain, one)
        ).fetchone()
        if row is None:
            continue
        ties, person = _decode_ties(row[0]), None if row[1] is None else _decode_person(row[1])
        left = ties.without(units), person and person.without(units)
        if left != (ties, person):
            connection.execute(
                "UPDATE identities SET ties = ?, person = ? WHERE domain = ? AND customer_id = ?",
                (_encode(left[0]), left[1] and _encode(left[1]), settings.domain, one),
            )
            changed += 1
    return changed


def _of(settings: Settings, units: Collection[str]) -> tuple[str, str]:
    return settings.domain, msgspec.json.encode(sorted(units)).decode()


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return msgspec.msgpack.decode(value)
    except msgspec.DecodeError:
        return value.hex()
