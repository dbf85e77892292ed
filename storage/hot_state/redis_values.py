"""What hot state looks like in Redis.

| key, after prefix and domain | holds |
|---|---|
| `{c:CUSTOMER}` | a hash: contacts, consents, preferences, suppressions, purchases, events; `v`, their version |
| `{c:CUSTOMER}:claim:DECISION` | who claimed the id, for a day; the ledger answers after that |
| `{c:CUSTOMER}:states:DIGEST` | what features over events are computed from (`event_state`), by what they keep |
| `replay:DIGEST` | a hash: whether these states are `complete`, `upto` which event, when they were last `used` |
| `{a:ACCOUNT}` | a hash: its members' contacts once more, and `v`, their version |
| `{b:BUDGET}`, `:pending`, `:history` | what is spent; charges that run out; what the ledger knew |
| `{b:BUDGET}:settled` | charges that were settled and may be told again |
| `paused` | paused actions, and the mark `=SCHEMA:RUN` of the rebuild that made all this complete |
| `erased` | hashes of ids of which nothing may be kept |
| `rebuilding` | who is completing it |

The mark is asked for with every read and reservation. Where it is missing, Redis has lost its keys
(it was flushed, or came back empty) and nothing that it says is believed until the ledger has filled it
again. A Redis that drops single keys is not noticed: its `maxmemory-policy` must be `noeviction`.

Beside `v` a hash may have `d`, where it must not end with its contacts, `g`, the last rebuild, and, of an
id that a link names, `l`, what links say (`identity.Ties`), and `m`, the `Person` that it is with others. What
is said of a person stays in the hashes of the members, and is put together when it is read (`united`).
What is in braces decides on which node of a cluster a key is. A customer's own things are under the
customer, so no change of account loses a consent, a suppression or a cap. A decision for a customer
who has an account, or is one person with others, touches all of them at once: that needs a single Redis
(one address, whatever replicas stand behind it). A Redis Cluster cannot serve them.

A contact is text of fixed width for scripts, then the account's name, then msgpack for Python:
state (`r`eserved, `c`onfirmed, `x` released), time, slot, when clicked, accepted, rejected, whether a
budget of everyone's was charged (`b`; `h` where the charge is in the budget's history; `-`). While the
budget has yet to hear of a new state, that is `B` or `H` where it was reserved before, `K` or `J` where
it was confirmed.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import NamedTuple, cast

import msgspec

from decisioning.content_types import CONTACT_MEMORY, Purpose
from decisioning.identity import Person
from decisioning.preferences import Preferences, PreferencesChange
from decisioning.profile import Consent, Contact, Event, HotProfile, Purchase, Subject
from storage.hot_state.charges import millionths
from storage.hot_state.effects import LIFTS, Answered
from storage.instants import from_microseconds, to_microseconds

SCHEMA = "3"
MARK_BEGIN = f"={SCHEMA}:"
_MARKED = MARK_BEGIN.encode()
# A day longer than contacts count: whoever reads just then finds them.
CONTACT_SECONDS = int(CONTACT_MEMORY.total_seconds()) + 86_400
PREFERENCES = "w"
NEVER = b"0" * 17
TIES, PERSON = b"l", b"m"
_UNANSWERED = NEVER * 3
# Where a contact's parts begin, counted from 0.
_AT, _SLOT, _CLICKED, _ACCEPTED, _REJECTED, _CHARGED, _ACCOUNT = 1, 18, 21, 38, 55, 72, 73
_BODY = 77
_KINDS = {ord(mark): kind for kind, marks in (("b", "bBK"), ("h", "hHJ")) for mark in marks}
# The same for scripts, which count from 1.
ANSWERS: dict[Answered, int] = {
    "clicked_at": _CLICKED + 1,
    "accepted_at": _ACCEPTED + 1,
    "rejected_at": _REJECTED + 1,
}
_encode_json = msgspec.json.Encoder().encode
_decode_preferences = msgspec.json.Decoder(Preferences).decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Contact).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode
_decode_all = msgspec.msgpack.Decoder(list[Contact]).decode


class Keys:
    """The names of one domain's keys."""

    def __init__(self, prefix: str, domain: str) -> None:
        self.root = f"{prefix}:{domain}:"
        self.accounts = f"{self.root}{{a:"
        self.paused = f"{self.root}paused"
        self.erased = f"{self.root}erased"
        self.rebuilding = f"{self.root}rebuilding"
        self.posterior = f"{self.root}posterior"
        self.posterior_lease = f"{self.root}posterior:lease"

    def customer(self, customer_id: str) -> str:
        """The customer's hash."""
        return f"{self.root}{{c:{_tag(customer_id)}}}"

    def claim(self, customer_id: str, decision_id: str) -> str:
        """Who claimed the id for this customer."""
        return f"{self.customer(customer_id)}:claim:{decision_id}"

    def state(self, unit: str, digest: str) -> str:
        """What features over events of this id are computed from."""
        return f"{self.customer(unit)}:states:{digest}"

    def replay(self, digest: str) -> str:
        """How far the states of these declarations are."""
        return f"{self.root}replay:{digest}"

    def account(self, account_id: str) -> str:
        """The account's hash."""
        return f"{self.accounts}{_tag(account_id)}}}"

    def budget(self, budget: str) -> tuple[str, str, str, str]:
        """What is spent, what is pending, what the ledger knew, what was settled."""
        key = f"{self.root}{{b:{_tag(budget)}}}"
        return key, f"{key}:pending", f"{key}:history", f"{key}:settled"


def mark_in(paused: Iterable[bytes]) -> bytes | None:
    """The mark of the rebuild that made hot state complete, which is kept beside the paused actions."""
    return next((member for member in paused if member.startswith(_MARKED)), None)


def _tag(name: str) -> str:
    """The name without a brace that would end it."""
    return name.replace("%", "%25").replace("}", "%7D") if "%" in name or "}" in name else name


def instant(at: datetime) -> str:
    """A time as text that is greater the later it is; times before 1970 are all the same.

    >>> from datetime import UTC
    >>> instant(datetime(2026, 1, 1, tzinfo=UTC))
    '01767225600000000'
    """
    return f"{max(0, to_microseconds(at)):017d}"


def contact_field(decision_id: str, action_id: str) -> str:
    """What a contact is called in its customer's hash."""
    return f"c{decision_id}\0{action_id}"


def member_prefix(customer_id: str) -> str:
    """What the customer's contacts begin with in the account's hash; no customer's is another's begin."""
    return f"{len(customer_id)}:{customer_id}\0"


def contact_value(contact: Contact, slot: int, account_id: str | None, *, confirmed: bool, charged: str = "-") -> bytes:
    """A contact as it is kept; `charged` as above."""
    account = b"" if account_id is None else _tag(account_id).encode()
    head = f"{'c' if confirmed else 'r'}{instant(contact.at)}{slot:03d}"
    return b"%b%b%b%04d%b%b" % (head.encode(), _UNANSWERED, charged.encode(), len(account), account, _encode(contact))


def contact_in(value: bytes) -> Contact:
    """The contact in what is kept."""
    return _decode(value[_BODY + int(value[_ACCOUNT:_BODY]) :])


def account_in(value: bytes) -> str:
    """The account in what is kept of a contact, as it is in keys; empty where there is none."""
    return value[_BODY : _BODY + int(value[_ACCOUNT:_BODY])].decode()


def consent_field(purpose: str, channel: str) -> str:
    """What a consent is called."""
    return f"s{purpose}\0{channel}"


def preferences_value(change: PreferencesChange) -> bytes:
    """Preferences as they are kept, under `PREFERENCES`: greater the later they were said."""
    return instant(change.at).encode() + _encode_json(change.preferences)


def suppression_field(channel: str) -> str:
    """What a suppression is called."""
    return f"x{channel}"


class Charge(NamedTuple):
    """What a contact was charged to a budget of everyone's."""

    budget: str
    name: str
    at: int
    amount: int
    kind: str


def charge_of(contact: Contact, customer_id: str, *, kind: str) -> Charge | None:
    """The contact's charge; `kind` is `h` where it is in the budget's history, else `b`."""
    if contact.budget is None:
        return None
    at, amount = to_microseconds(contact.at), millionths(contact.cost)
    name = f"{kind}:{at}:{amount}:{member_prefix(customer_id)}{contact.decision_id}\0{contact.action_id}"
    return Charge(contact.budget, name, at, amount, kind)


def charge_in(value: bytes, customer_id: str) -> Charge | None:
    """The charge of a contact as it is kept."""
    length = int(value[_ACCOUNT:_BODY])
    kind = _KINDS.get(value[_CHARGED])
    return None if kind is None else charge_of(_decode(value[_BODY + length :]), customer_id, kind=kind)


class Settlement(NamedTuple):
    """A charge whose budget has yet to hear that its contact was confirmed or released.

    Attributes:
        field: The contact.
        before: Its state before this call.
        state: Its state now.
        was_kept: Whether the budget knows it as confirmed.
    """

    charge: Charge
    field: bytes
    before: str
    state: str
    was_kept: bool


def settlements_in(customer_id: str, changed: list[bytes]) -> Iterator[Settlement]:
    """What the scripts that change contacts say: field, former state, state and value of each in turn."""
    for field, before, state, value in zip(changed[::4], changed[1::4], changed[2::4], changed[3::4], strict=True):
        charge = charge_in(value, customer_id)
        if charge is not None:
            yield Settlement(charge, field, before.decode(), state.decode(), value[_CHARGED] in b"KJ")


def profile_of(
    customer: list[bytes], account: list[bytes], subject: Subject, paused: tuple[str, ...], *, now: datetime
) -> HotProfile:
    """What the customer's and the account's hash say, each a list of fields and values in turn.

    Where the customer is one person with others, `customer` must be the hashes of all (`united`).
    """
    begin = instant(now - CONTACT_MEMORY).encode()
    own: list[bytes] = []
    consents: list[Consent] = []
    withdrawn: list[Consent] = []
    preferences: Preferences | None = None
    suppressed: list[tuple[bytes, bytes]] = []
    lifted: dict[bytes, bytes] = {}
    purchases: list[Purchase] = []
    events: list[Event] = []
    version = 0
    person: Person | None = None
    pairs = iter(customer)
    for name, value in zip(pairs, pairs, strict=True):
        kind = name[0]
        if kind == _C:
            if value[0] != _X and value[_AT:_SLOT] > begin:
                own.append(value)
        elif kind == _S:
            purpose, channel = name[1:].split(b"\0", 1)
            word = Consent(cast(Purpose, purpose.decode()), channel.decode())
            (consents if value[0] == _ONE else withdrawn).append(word)
            if purpose == _LIFTS:
                lifted[channel] = value[18:]
        elif kind == _SUPPRESSED:
            suppressed.append((name[1:], value))
        elif kind == _P:
            purchases.append(Purchase(name[1:].decode(), from_microseconds(int(value))))
        elif kind == _E:
            events.append(Event(name[1:].decode(), from_microseconds(int(value))))
        elif kind == _W:
            preferences = _decode_preferences(value[len(NEVER) :])
        elif name == b"v":
            version += int(value)
        elif name == PERSON:
            person = _decode_person(value)
    others: list[bytes] = []
    if account:
        mine = tuple(member_prefix(one).encode() for one in (person.members if person else (subject.customer_id,)))
        pairs = iter(account)
        for name, value in zip(pairs, pairs, strict=True):
            if name == b"v":
                version += int(value)
            elif len(value) >= _BODY and value[0] != _X and value[_AT:_SLOT] > begin and not name.startswith(mine):
                others.append(value)
    return HotProfile(
        consents=tuple(sorted(consents, key=_BY_PURPOSE)) if consents else (),
        contacts=_contacts(own, now) if own else (),
        suppressed=tuple(sorted([c.decode() for c, at in suppressed if lifted.get(c, NEVER) <= at])),
        account_contacts=_contacts(others, now) if others else (),
        purchases=tuple(sorted(purchases, key=_BY_PRODUCT)) if purchases else (),
        events=tuple(sorted(events, key=_BY_NAME)) if events else (),
        paused=paused,
        version=version,
        person=person,
        withdrawn=tuple(sorted(withdrawn, key=_BY_PURPOSE)) if withdrawn else (),
        preferences=preferences,
        met_first=person.met_first if person else None,
    )


def united(hashes: Mapping[str, list[bytes]], called: str) -> list[bytes]:
    """The hashes of a person's members as if all had happened to the one id that the person is called.

    Who the person is says the first. Contacts say with which other id they were made.
    """
    together: dict[bytes, bytes] = {}
    for member, fields in hashes.items():
        pairs = iter(fields)
        for name, value in zip(pairs, pairs, strict=True):
            if name[0] == _C and member != called:
                value = _made_with(member, value)
            known = together.get(name)
            together[name] = value if known is None else _both(name, known, value)
    return [part for pair in together.items() for part in pair]


def _made_with(member: str, value: bytes) -> bytes:
    body = _BODY + int(value[_ACCOUNT:_BODY])
    return value[:body] + _encode(msgspec.structs.replace(_decode(value[body:]), customer_id=member))


def _both(name: bytes, one: bytes, other: bytes) -> bytes:
    """What two members' fields of one name say together."""
    if name == b"v":
        return str(int(one) + int(other)).encode()
    kind = name[0]
    if kind == _S:
        # The last word; of two at the same instant, the one that withdraws. And the last that granted.
        last = max(one, other, key=lambda word: (word[1:18], word[0] != _ONE))
        return last[:18] + max(one[18:], other[18:])
    return max(one, other) if kind in (_SUPPRESSED, _P, _E, _W) else one


def paused_in(members: Iterable[bytes]) -> tuple[str, ...]:
    """The paused actions, which stand beside the mark."""
    return tuple(sorted(member.decode() for member in members if member[0] != _EQUALS))


_C, _S, _SUPPRESSED, _P, _E, _W, _X, _ONE, _CONFIRMED, _EQUALS = b"csxpewx1c="
_LIFTS = LIFTS.encode()
_BY_PURPOSE, _BY_PRODUCT, _BY_NAME = attrgetter("purpose", "channel"), attrgetter("product"), attrgetter("name")
_BY_TIME = itemgetter(slice(_AT, _SLOT))


def _contacts(kept: list[bytes], now: datetime) -> tuple[Contact, ...]:
    """Oldest first; those of one instant by decision and slot."""
    kept.sort(key=_BY_TIME)
    # All at once, as one array: that costs a third.
    bodies = [
        value[_BODY:] if value[_ACCOUNT:_BODY] == b"0000" else value[_BODY + int(value[_ACCOUNT:_BODY]) :]
        for value in kept
    ]
    found: list[Contact] = _decode_all(b"".join((b"\xdd", len(bodies).to_bytes(4, "big"), *bodies)))
    answered = [place for place, value in enumerate(kept) if value[_CLICKED:_CHARGED] != _UNANSWERED]
    for place in answered:
        value = kept[place]
        found[place] = msgspec.structs.replace(
            found[place],
            clicked_at=_time(value[_CLICKED:_ACCEPTED]),
            accepted_at=_time(value[_ACCEPTED:_REJECTED]),
            rejected_at=_time(value[_REJECTED:_CHARGED]),
        )
    if len({*map(_BY_TIME, kept)}) < len(kept):
        order = sorted(
            range(len(kept)),
            key=lambda place: (kept[place][_AT:_SLOT], found[place].decision_id, kept[place][_SLOT:_CLICKED]),
        )
        kept, found = [kept[place] for place in order], [found[place] for place in order]
    return tuple(
        [
            contact
            for contact, value in zip(found, kept, strict=True)
            if value[0] == _CONFIRMED or contact.until is None or contact.until > now
        ]
    )


def _time(text: bytes) -> datetime | None:
    return None if text == NEVER else from_microseconds(int(text))
