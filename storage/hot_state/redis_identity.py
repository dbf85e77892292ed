"""Who is one person, in Redis's hot state: what links change, and the hashes of all members as one.

What is to be written is worked out here (`identity.linking`) and written by a script if all that it was
worked out from still stands; else it is worked out again.
"""

from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from decisioning.errors import StoreError
from decisioning.identity import Change, Known, Link, Person, Ties, linking
from storage.hot_state.redis_connection import Command
from storage.hot_state.redis_scripts import LINK
from storage.hot_state.redis_values import PERSON, TIES, Keys

# How often links are worked out again because others were faster, before they are given up.
ATTEMPTS = 64
STAYS = "="
# Yields commands and is sent the replies.
Conversation = Generator[Sequence[Command], Sequence[Any], None]
_encode = msgspec.msgpack.Encoder().encode
_decode_ties = msgspec.msgpack.Decoder(Ties).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode


def link_ids(keys: Keys, links: Sequence[Link], *, anew: bool = False) -> Conversation:
    """Let ids be one person; again changes nothing.

    `anew` mends what a rebuild may have left of a link that came while it was under way.

    Raises:
        StoreError: Others were faster time after time.
    """
    for _ in range(ATTEMPTS):
        change, read = yield from _change_of(keys, links, anew)
        if not change.ties and not change.people:
            return
        said: list[str | bytes] = []
        for unit, ties in read.items():
            said.append(ties)
            said.append(_encode(change.ties[unit]) if unit in change.ties else b"")
            said.append(_called(change.people[unit]) if unit in change.people else STAYS)
        [written] = yield [("EVALSHA", LINK.sha, len(read), *map(keys.customer, read), *said)]
        if written:
            return
    raise StoreError(f"customer '{links[0].customer_id}' was linked by others {ATTEMPTS} times at the same instant")


def _change_of(
    keys: Keys, links: Sequence[Link], anew: bool
) -> Generator[Sequence[Command], Sequence[Any], tuple[Change, dict[str, bytes]]]:
    """What links change, and the ties that it was worked out from, as they are kept."""
    steps = linking(links, anew=anew)
    read: dict[str, bytes] = {}
    known: dict[str, Known] | None = None
    while True:
        try:
            wanted = next(steps) if known is None else steps.send(known)
        except StopIteration as done:
            return done.value, read
        replies = yield [("HMGET", keys.customer(unit), TIES, PERSON) for unit in wanted]
        known = {}
        for unit, (ties, person) in zip(wanted, replies, strict=True):
            read[unit] = ties or b""
            known[unit] = Known(_decode_ties(ties) if ties else None, _decode_person(person) if person else None)


def _called(person: Person | None) -> bytes:
    return b"" if person is None else _encode(person)
