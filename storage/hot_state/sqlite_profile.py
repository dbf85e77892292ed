"""What SQLite's hot state says of a customer, or of all ids that are one person.

Rows stay under the id that they were made with. A person's profile is made of the rows of all
members, by the rules that hold among the rows of one: so ids become one person, or two again,
without a row being moved.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from decisioning.content_types import CONTACT_MEMORY, Purpose
from decisioning.identity import Person
from decisioning.preferences import Preferences
from decisioning.profile import Consent, Contact, Event, HotProfile, Purchase, Subject
from storage.hot_state.effects import LIFTS
from storage.instants import from_microseconds, to_microseconds

_CONTACTS = """
SELECT action_id, grp, channel, at, goal, placement, decision_id, until, clicked_at, accepted_at, rejected_at,
    budget, cost, {made_with}
FROM contacts
WHERE domain = ?1 AND {whose} AND at > ?3
    AND (state = 'confirmed' OR (state = 'reserved' AND (until IS NULL OR until > ?4)))
ORDER BY at, decision_id, slot
"""
_MEMBERS = "(SELECT value FROM json_each(?2))"
_OWN = _CONTACTS.format(whose="customer_id = ?2", made_with="NULL")
_OF_OTHERS = _CONTACTS.format(whose="account_id = ?5 AND customer_id <> ?2", made_with="NULL")
_OWN_OF_ALL = _CONTACTS.format(whose=f"customer_id IN {_MEMBERS}", made_with="nullif(customer_id, ?5)")
_OF_OTHERS_THAN_ALL = _CONTACTS.format(whose=f"account_id = ?5 AND customer_id NOT IN {_MEMBERS}", made_with="NULL")
_REST = """
SELECT iif(granted, 'consent', 'withdrawn'), purpose, channel, 0 FROM consents WHERE domain = ?1 AND customer_id = ?2
UNION ALL
SELECT 'preferences', record, NULL, at FROM preferences WHERE domain = ?1 AND customer_id = ?2
UNION ALL
SELECT 'suppressed', channel, NULL, 0 FROM suppressions AS s
WHERE domain = ?1 AND customer_id = ?2 AND NOT EXISTS (
    SELECT 1 FROM consents AS c
    WHERE c.domain = ?1 AND c.customer_id = ?2 AND c.purpose = ?3 AND c.channel = s.channel
        AND c.granted_at > s.at
)
UNION ALL
SELECT 'purchase', product, NULL, at FROM purchases WHERE domain = ?1 AND customer_id = ?2
UNION ALL
SELECT 'event', name, NULL, at FROM events WHERE domain = ?1 AND customer_id = ?2
UNION ALL
SELECT 'person', person, NULL, 0 FROM identities WHERE domain = ?1 AND customer_id = ?2 AND person IS NOT NULL
UNION ALL
SELECT 'erased', NULL, NULL, 0 FROM erased WHERE domain = ?1 AND digest = ?4
UNION ALL
SELECT 'paused', action, NULL, 0 FROM paused WHERE domain = ?1
"""
# The last word counts, whoever of them said it; of two at the same instant, the one that withdraws.
_REST_OF_ALL = f"""
SELECT iif(
    max(at) FILTER (WHERE granted) > coalesce(max(at) FILTER (WHERE NOT granted), -9e18), 'consent', 'withdrawn'
), purpose, channel, 0 FROM consents
WHERE domain = ?1 AND customer_id IN {_MEMBERS}
GROUP BY purpose, channel
UNION ALL
SELECT 'preferences', record, NULL, at FROM preferences WHERE domain = ?1 AND customer_id IN {_MEMBERS}
UNION ALL
SELECT 'suppressed', channel, NULL, 0 FROM (
    SELECT channel, max(at) AS at FROM suppressions WHERE domain = ?1 AND customer_id IN {_MEMBERS} GROUP BY channel
) AS s
WHERE NOT EXISTS (
    SELECT 1 FROM consents AS c
    WHERE c.domain = ?1 AND c.customer_id IN {_MEMBERS} AND c.purpose = ?3 AND c.channel = s.channel
        AND c.granted_at > s.at
)
UNION ALL
SELECT 'purchase', product, NULL, max(at) FROM purchases
WHERE domain = ?1 AND customer_id IN {_MEMBERS} GROUP BY product
UNION ALL
SELECT 'event', name, NULL, max(at) FROM events WHERE domain = ?1 AND customer_id IN {_MEMBERS} GROUP BY name
UNION ALL
SELECT 'paused', action, NULL, 0 FROM paused WHERE domain = ?1
"""  # noqa: S608 (no text of anybody's)
# Two look-ups: one search for both would read every row of the domain.
_VERSION = """
SELECT coalesce((SELECT {version} FROM versions WHERE domain = ?1 AND whose = 'customer' AND id {whose}), 0)
    + coalesce((SELECT version FROM versions WHERE domain = ?1 AND whose = 'account' AND id = ?3), 0)
"""
_VERSION_OF_ONE = _VERSION.format(version="version", whose="= ?2")
_VERSION_OF_ALL = _VERSION.format(version="sum(version)", whose=f"IN {_MEMBERS}")

Found = dict[str, list[tuple[Any, Any, int]]]
_decode_preferences = msgspec.json.Decoder(Preferences).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode


def read_profile(
    connection: sqlite3.Connection, domain: str, subject: Subject, now: datetime, *, digest: str
) -> HotProfile:
    """All that is true of this customer, or of the person that the customer is; `digest` is the id's hash."""
    found = _found(connection, _REST, domain, subject.customer_id, digest)
    if "erased" in found:
        return HotProfile(paused=tuple(action for action, _, _ in found.get("paused", ())), erased=True)
    person = _decode_person(found["person"][0][0]) if "person" in found else None
    whose, own, of_others = subject.customer_id, _OWN, _OF_OTHERS
    called: tuple[str, ...] = ()
    if person is not None:
        whose, own, of_others, called = _as_json(person), _OWN_OF_ALL, _OF_OTHERS_THAN_ALL, (person.id,)
        found = _found(connection, _REST_OF_ALL, domain, whose)
    window = to_microseconds(now - CONTACT_MEMORY), to_microseconds(now)
    others: tuple[Contact, ...] = ()
    if subject.account_id is not None:
        others = _contacts(connection.execute(of_others, (domain, whose, *window, subject.account_id)))
    wishes = max(((at, record) for record, _, at in found.get("preferences", ())), default=None)
    return HotProfile(
        consents=_words(found, "consent"),
        contacts=_contacts(connection.execute(own, (domain, whose, *window, *called))),
        suppressed=tuple(channel for channel, _, _ in found.get("suppressed", ())),
        account_contacts=others,
        purchases=tuple(Purchase(product, from_microseconds(at)) for product, _, at in found.get("purchase", ())),
        events=tuple(Event(name, from_microseconds(at)) for name, _, at in found.get("event", ())),
        paused=tuple(action for action, _, _ in found.get("paused", ())),
        version=read_version(connection, domain, subject, person),
        person=person,
        withdrawn=_words(found, "withdrawn"),
        preferences=None if wishes is None else _decode_preferences(wishes[1]),
        met_first=person.met_first if person else None,
    )


def read_version(connection: sqlite3.Connection, domain: str, subject: Subject, person: Person | None) -> int:
    """Another one whenever anything changed of the customer, of any member of the person, or of the account."""
    statement, whose = _VERSION_OF_ONE, subject.customer_id
    if person is not None:
        statement, whose = _VERSION_OF_ALL, _as_json(person)
    (version,) = connection.execute(statement, (domain, whose, subject.account_id)).fetchone()
    return int(version)


def _found(connection: sqlite3.Connection, statement: str, domain: str, whose: str, *digest: str) -> Found:
    found: Found = {}
    for kind, name, of, at in sorted(connection.execute(statement, (domain, whose, LIFTS, *digest))):
        found.setdefault(kind, []).append((name, of, at))
    return found


def _words(found: Found, kind: str) -> tuple[Consent, ...]:
    return tuple(Consent(cast(Purpose, purpose), channel) for purpose, channel, _ in found.get(kind, ()))


def _as_json(person: Person) -> str:
    return msgspec.json.encode(person.members).decode()


def _contacts(rows: Iterable[Sequence[Any]]) -> tuple[Contact, ...]:
    return tuple(
        Contact(action_id, group, channel, from_microseconds(at), goal, placement, decision_id,
                _instant(until), _instant(clicked), _instant(accepted), _instant(rejected), budget, cost,
                made_with)
        for action_id, group, channel, at, goal, placement, decision_id, until, clicked, accepted, rejected,
            budget, cost, made_with in rows
    )  # fmt: skip


def _instant(at: int | None) -> datetime | None:
    return None if at is None else from_microseconds(at)
