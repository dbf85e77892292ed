"""What decisions that go were charged to budgets: money that was spent stays spent, whoever is forgotten."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

from decisioning.record import ShownSlot
from storage.hot_state.effects import CONFIRMS, RELEASES
from storage.instants import to_microseconds

QUARTER = 15 * 60 * 1_000_000


class Charged(NamedTuple):
    """A charge without whom it was for; `at` is the begin of a quarter of an hour, microseconds since 1970."""

    budget: str
    at: int
    cost: float


class Deciding(msgspec.Struct):
    """What of a decision says what it was charged."""

    decided_at: datetime
    slots: tuple[ShownSlot, ...]
    contact_at: datetime | None = None


class Said(NamedTuple):
    """What of an outcome says whether a slot was shown."""

    type: str
    detail: str | None
    action_id: str | None


_deciding = msgspec.json.Decoder(Deciding)


def charges_of(record: bytes, outcomes: Iterable[Said]) -> Iterator[Charged]:
    """What a decision's slots were charged for good: of those that were shown, and not released.

    `record` is a `DecisionRecord` as JSON.
    """
    said, decision = list(outcomes), _deciding.decode(record)
    at = to_microseconds(decision.contact_at or decision.decided_at)
    for slot in decision.slots:
        if slot.budget is None or slot.repeats is not None:
            continue
        own = [each for each in said if each.action_id in (None, slot.action_id)]
        confirmed = slot.confirmed or any(each.type in CONFIRMS and each.detail != "machine" for each in own)
        if confirmed and not any(each.type in RELEASES for each in own):
            yield Charged(slot.budget, at // QUARTER * QUARTER, slot.cost)
