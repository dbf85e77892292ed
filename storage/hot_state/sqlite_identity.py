"""Who is one person, in SQLite's hot state: what links change, live and when it is rebuilt."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping

import msgspec

from decisioning.identity import Change, Known, Link, Person, Ties, linked

_READ = """
SELECT customer_id, ties, person FROM identities WHERE domain = ? AND customer_id IN (SELECT value FROM json_each(?))
"""
_TIE = "INSERT INTO identities VALUES (?1, ?2, ?3, NULL) ON CONFLICT DO UPDATE SET ties = excluded.ties"
_CALL = "UPDATE identities SET person = ?3 WHERE domain = ?1 AND customer_id = ?2"
_encode = msgspec.msgpack.Encoder().encode
_decode_ties = msgspec.msgpack.Decoder(Ties).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode


def change_of(connection: sqlite3.Connection, domain: str, links: Iterable[Link]) -> Change:
    """What links change, in a transaction of the caller's."""
    return linked(links, lambda wanted: _known(connection, domain, wanted))


def link_ids(connection: sqlite3.Connection, domain: str, links: Iterable[Link]) -> None:
    """Let ids be one person, in a transaction of the caller's that writes; again changes nothing."""
    change = change_of(connection, domain, links)
    connection.executemany(_TIE, [(domain, unit, _encode(ties)) for unit, ties in change.ties.items()])
    connection.executemany(
        _CALL, [(domain, unit, person and _encode(person)) for unit, person in change.people.items()]
    )


def _known(connection: sqlite3.Connection, domain: str, wanted: Collection[str]) -> Mapping[str, Known]:
    rows = connection.execute(_READ, (domain, msgspec.json.encode(list(wanted)).decode()))
    return {
        unit: Known(None if ties is None else _decode_ties(ties), None if person is None else _decode_person(person))
        for unit, ties, person in rows
    }
