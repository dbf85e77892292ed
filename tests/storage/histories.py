"""A ledger's rows as they may arrive, and what the online posterior counts of them, straight from the rules."""

import asyncio
from contextlib import closing
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from decisioning.attribution import attributed
from decisioning.bundle import Manifest
from decisioning.content_types import NO_ACTION
from decisioning.events import EventRecord
from decisioning.identity import is_visitor, links_of, person_names
from decisioning.orders import orders_of
from decisioning.posterior import Fitted
from decisioning.record import DecisionRecord, ModelVersion, OutcomeRecord, ShownSlot
from decisioning.response_counts import Counts, add, coarsened, decoded, exposure
from decisioning.reward import credited
from storage.hot_state.posteriors import PosteriorStore, open_posterior
from storage.ledger.arrivals import Arrivals
from storage.ledger.writer import Ledger
from storage.posterior_counting import Counted, Counting, Scoring
from storage.settings import Settings
from tests.builders import candidate, placement
from tests.fakes import FakeScorer
from tests.storage.kept import NOW, decision, event, outcome, slot

BUNDLE = "f" * 64
HOME = placement(
    attribution_window=timedelta(hours=6), reward={"accept": 1.0, "unsubscribe": -1.0, "purchase": "value"}
)
MANIFEST: Manifest = msgspec.structs.replace(
    FakeScorer().manifest, domain="simulated", trained_until=NOW - timedelta(days=3)
)
SCORING = Scoring(BUNDLE, MANIFEST, {"home_hero": HOME}, {"card": ("mug",), "tea_set": ("mug", "tea")})
AFTER = NOW + timedelta(days=3)
Row = DecisionRecord | OutcomeRecord | EventRecord


def decided(number: int, **overrides: Any) -> DecisionRecord:
    at = NOW - timedelta(hours=40) + timedelta(minutes=number)
    given = {"customer_id": f"c-{number % 7}", "decided_at": at, "slots": (slot("card"),), **overrides}
    return decision(f"d-{number}", **given)


def said(record: DecisionRecord, kind: str, **overrides: Any) -> OutcomeRecord:
    at = record.decided_at + timedelta(minutes=3)
    given = {"decision_id": record.decision_id, "type": kind, "occurred_at": at, "received_at": at, **overrides}
    return outcome(f"{record.decision_id}/{kind}", **given)


def shown(action_id: str, **overrides: Any) -> ShownSlot:
    return slot(action_id, products=SCORING.promotes.get(action_id, ()), **overrides)


def history(rng: np.random.Generator, count: int = 60) -> list[Row]:
    """Decisions, some of them reloads, of other models or of nothing, what was told of them, orders, and who is who."""
    rows: list[Row] = []
    first: dict[int, str] = {}  # the decision whose contact one still is
    for number in range(count):
        first[number] = f"d-{number}"
        action_id = str(rng.choice(["card", "tea_set", NO_ACTION]))
        others = tuple(candidate(name, weight=weight) for name, weight in (("card", 0.4), ("tea_set", 0.3)))
        record = decided(number, slots=(shown(action_id),), candidates=(candidate(NO_ACTION), *others))
        luck = rng.random()
        if luck < 0.2 and number >= 7:  # of the same customer
            first[number] = first[number - 7]
            record = decided(number, slots=(shown("card", repeats=first[number]),))
        elif luck < 0.3 and number >= 7:  # of another id of the same person
            record = decided(number, slots=(shown("card", repeats=first[number - 5], repeats_of="c-9"),))
        elif luck < 0.4:
            record = msgspec.structs.replace(record, model=ModelVersion("propensity", "6", "e" * 64))
        rows.append(record)
        kinds = (("impression", 0.8), ("accept", 0.2), ("unsubscribe", 0.2), ("purchase", 0.1))
        rows += [said(record, kind) for kind, chance in kinds if rng.random() < chance]
        if rng.random() < 0.3:
            rows.append(ordered(number, rng))
    aliases = (("c-1", "c-3"), ("c-5", "c-3"), ("c-6", "anonymous:v-1"), ("c-2", "anonymous:v-1"))
    return [*rows, *(alias(known, other, hour) for hour, (known, other) in enumerate(aliases))]


def ordered(number: int, rng: np.random.Generator) -> EventRecord:
    """An order of one of the seven customers, or of a visitor, told by the till; some are told twice."""
    who, at = int(rng.integers(9)), NOW - timedelta(hours=40) + timedelta(minutes=number + 5)
    by = {"customer_id": f"c-{who}"} if who < 7 else {"customer_id": None, "anonymous_id": "v-1"}
    product = str(rng.choice(["mug", "tea", "salt"]))
    properties = {"order_id": f"A-{number // 2}", "products": [{"product_id": product, "price": 10.0}]}
    return event(f"till/{number}", source="till", properties=properties, occurred_at=at, received_at=at, **by)


def alias(known: str, other: str, hour: int) -> EventRecord:
    """That two ids are one person: two customers, or a visitor and a customer."""
    at = NOW - timedelta(hours=30 - hour)
    named = {"anonymous_id": other.partition(":")[2]} if is_visitor(other) else {"previous_id": other}
    return event(
        f"shop/{known}={other}", type="alias", name="alias", customer_id=known, occurred_at=at, received_at=at, **named
    )


def append(settings: Settings, rows: list[Row]) -> None:
    async def write(ledger: Ledger) -> None:
        for row in rows:
            if isinstance(row, DecisionRecord):
                await ledger.append_decision(row, digest=row.decision_id)
            elif isinstance(row, EventRecord):
                await ledger.append_events([(row, row.event_id)])
            else:
                await ledger.append_outcomes([(row, row.outcome_id)])

    with closing(Ledger(settings)) as ledger:
        asyncio.run(write(ledger))


def by_definition(rows: list[Row]) -> Counts:
    """Straight from the rules: every decision of the bundle with all that is credited to it."""
    records = [row for row in rows if isinstance(row, DecisionRecord)]
    told = [row for row in rows if isinstance(row, EventRecord)]
    reported: dict[str, list[OutcomeRecord]] = {}
    for row in rows:
        if isinstance(row, OutcomeRecord):
            reported.setdefault(row.decision_id, []).append(row)
    own = [each for each in records if all(slot.repeats_of is None for slot in each.slots)]
    found = attributed(
        credited(reported, own),
        orders_of(told),
        records,
        placements=SCORING.placements,
        promotes=SCORING.promotes,
        person=person_names(link for each in told for link in links_of(each)),
    )
    counts: Counts = {}
    for record in records:
        if record.model is not None and record.model.bundle_sha256 == BUNDLE:
            add(counts, exposure(record, HOME, found.get(record.decision_id, ())))
    return coarsened(counts, now=AFTER)


def go_on(settings: Settings, scoring: Scoring = SCORING) -> Fitted | None:
    with closing(Arrivals(settings)) as arrivals:
        return Counting(open_posterior(settings), arrivals).go_on(scoring, now=AFTER)


def counts_in(store: PosteriorStore) -> Counts:
    kept = store.kept()
    assert kept is not None
    return decoded(msgspec.msgpack.decode(kept.counted, type=Counted).counts)
