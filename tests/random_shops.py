"""Random catalogues, customers and requests, for what must hold whatever is written and asked; seeded."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from decisioning.catalog import Release
from decisioning.content import (
    Action,
    Audience,
    Budget,
    ContextWeight,
    CoolDown,
    Journey,
    QuietHours,
    Stage,
    Transition,
)
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.experiment_content import GroupHoldout, Holdout, Variant
from decisioning.exploration import EpsilonGreedy, Greedy, SquareCB
from decisioning.profile import BudgetLeft, Consent, Event, HotProfile, Purchase
from decisioning.record import DecisionRecord
from serving.engine import DrawKey, Engine
from tests.builders import NOW, action, contact, content, experiment, placement, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer

KEY = DrawKey(b"0123456789abcdef")
RULES = ("true", "customer.age > 30.0", "customer.city == 'ulm'", "in_audience('young')", "context.cart_value > 10.0",
         "has(context.cart_value)")  # fmt: skip
GROUPS = ("cards", "loans", "other")
IDS = tuple(f"a{number}" for number in range(8))
# A variant that changes what is decided; the first four actions are in every shop.
BOLD = Variant(id="b", exploration=EpsilonGreedy(epsilon=0.5), levers={"a1": 3.0, "a3": 0.0}, limits={"weekly": 1})


def random_release(rng: np.random.Generator) -> Release:
    """A catalogue with a bit of everything."""
    has_journey = _one_in(rng, 2)
    actions = [random_action(rng, action_id, has_journey) for action_id in IDS[: int(rng.integers(4, 9))]]
    actions.append(action(NO_ACTION, group="other", value=float(rng.choice([0.0, 0.5, 1.0])), fallback=_one_in(rng, 3)))
    policy = [Greedy(), EpsilonGreedy(epsilon=0.2), SquareCB(gamma=20.0)][int(rng.integers(3))]
    slots = int(rng.integers(1, 4))
    apprentice = _one_in(rng.spawn(1)[0], 3)  # a stream beside leaves the shops as they were
    welcome = Journey(
        id="welcome",
        stages=(
            Stage(id="new", name="New", entry="customer.age < 50.0", weights={"cards": 2.0}),
            Stage(id="old", name="Old"),
        ),
        transitions=(Transition(source="new", target="old", on="purchase"),),
    )
    return Release(
        {
            BLUEPRINT: content(
                *actions,
                holdout=Holdout(share=0.1 if _one_in(rng, 3) else 0.0),
                continuity=timedelta(days=int(rng.integers(0, 4))),
                placements=(
                    placement(slots=slots, exploration=policy),
                    placement("inbox", slots=2, exploration=policy, shown_by="decision", apprentice=apprentice),
                    placement("newsletter", channel="email", slots=1, shown_by="sent"),
                ),
                contact_policies=(
                    weekly_cap(limit=int(rng.integers(2, 7)), per=("any", "group", "action")[rng.integers(3)]),
                    # Where the feature store is away, nobody knows the account, and such a cap leaves nothing.
                    *((weekly_cap(id="account", limit=9, of="account"),) if _one_in(rng, 2) else ()),
                ),
                cool_downs=(CoolDown(id="no", after="reject", lasting=timedelta(days=5)),),
                quiet_hours=(QuietHours(id="night", begin="22:00", end="07:00"),),
                budgets=(
                    Budget(id="pot", amount=100.0, period=timedelta(days=30), starts=NOW - timedelta(days=9)),
                    Budget(id="own", amount=2.0, counts="contacts", of="customer", period=timedelta(days=7),
                           starts=NOW - timedelta(days=9)),
                ),
                journeys=(welcome,) if has_journey else (),
                audiences=(Audience(id="young", rule="customer.age < 40.0"),),
                holdouts=(GroupHoldout(id="no_loans", groups=("loans",), share=0.1),),
                experiments=(experiment(variants=(Variant(id="a"), BOLD)),),
            )
        },
        version=f"sha256:{rng.integers(1 << 30):x}",
    )  # fmt: skip


def random_action(rng: np.random.Generator, action_id: str, has_journey: bool) -> Action:
    def rule() -> str:
        return str(rng.choice(RULES))

    return action(
        action_id,
        group=str(rng.choice(GROUPS)),
        value="customer.age * 0.5" if _one_in(rng, 8) else float(rng.choice([0.0, 5.0, 10.0, 10.0])),
        lever=float(rng.choice([0.0, 1.0, 1.0, 1.5])),
        rank_by="uplift" if _one_in(rng, 3) else "response",
        eligibility=rule() if _one_in(rng, 4) else "true",
        suitability=rule() if _one_in(rng, 6) else "true",
        context_weights=(ContextWeight(rule(), 1.7),) if _one_in(rng, 4) else (),
        promotes=("shoe",) if _one_in(rng, 6) else (),
        stages=("new",) if has_journey and _one_in(rng, 4) else (),
        budget=[None, None, "pot", "own"][int(rng.integers(4))],
        cost=float(rng.choice([1.0, 2.5])),
        follow_up=None if action_id == "a0" or not _one_in(rng, 4) else "a0",
        fallback=_one_in(rng, 2),
    )


def random_profile(rng: np.random.Generator) -> HotProfile:
    contacts = tuple(
        contact(
            str(rng.choice(IDS)),
            group=str(rng.choice(GROUPS)),
            goal="sell",
            ago=timedelta(hours=int(hours)),
            placement="home_hero",
            decision_id=f"before-{hours}",
            until=NOW + timedelta(minutes=10) if _one_in(rng, 4) else None,
            accepted_at=NOW - timedelta(minutes=30) if _one_in(rng, 4) else None,
            rejected_at=NOW - timedelta(minutes=20) if _one_in(rng, 5) else None,
            budget="own" if _one_in(rng, 3) else None,
            cost=1.0,
        )
        for hours in sorted(rng.integers(1, 200, int(rng.integers(0, 5))), reverse=True)
    )
    return HotProfile(
        consents=(Consent("marketing", "email"),) if _one_in(rng, 2) else (),
        contacts=contacts,
        suppressed=("web",) if _one_in(rng, 30) else (),
        purchases=(Purchase("shoe", NOW - timedelta(days=2)),) if _one_in(rng, 4) else (),
        events=(Event("purchase", NOW - timedelta(days=2)),) if _one_in(rng, 3) else (),
        budgets=(BudgetLeft("pot", float(rng.choice([0.0, 1.0, 3.0, 50.0]))),),
        paused=(str(rng.choice(IDS)),) if _one_in(rng, 8) else (),
    )


class FailsAtReservation(FakeHotState):
    async def reserve(self, request: Any) -> Any:
        self.down = True
        return await super().read(request.subject, now=request.now)


def random_decisions(
    rng: np.random.Generator, count: int, *, alone: bool = False
) -> Iterator[tuple[Release, DecisionRecord]]:
    """Decisions of one random release, as the ledger would give them back; `alone`, none interleaves with another."""
    release = random_release(rng)
    for number in range(count):
        yield from ((release, back(record)) for record in decided(rng, release, f"d-{number}", alone=alone))


def decided(rng: np.random.Generator, release: Release, decision_id: str, *, alone: bool) -> tuple[DecisionRecord, ...]:
    hot = FakeHotState(random_profile(rng)) if not _one_in(rng, 15) else FailsAtReservation(random_profile(rng))
    hot.down = _one_in(rng, 20)
    if not alone and _one_in(rng, 4):  # somebody else decides for the same customer at the same instant
        hot.taken_by_others = (contact(str(rng.choice(IDS)), group=str(rng.choice(GROUPS)), ago=timedelta(0)),)
    features = FakeFeatures(
        {f"c-{n}": {"age": float(rng.integers(20, 60)), "city": str(rng.choice(["ulm", "bonn"]))} for n in range(50)}
    )
    features.down = _one_in(rng, 20)
    names = (*IDS, NO_ACTION)
    engine = Engine(
        release=release,
        features=features,
        hot_state=hot,
        ledger=FakeLedger(),
        scorer=None if _one_in(rng, 15) else FakeScorer({n: float(rng.choice([0.1, rng.random()])) for n in names}),
        draw_key=KEY,
    )  # fmt: skip
    beside = rng.spawn(1)[0]
    engine.shadow = FakeScorer({n: float(beside.random()) for n in names}) if _one_in(beside, 2) else None
    where: dict[str, Any] = [
        {}, {"placement": "inbox"},
        {"placement": "newsletter", "planned_at": NOW + timedelta(hours=int(rng.integers(48)))},
        {"placement": None, "placements": ("home_hero", "inbox")},
    ][int(rng.integers(4))]  # fmt: skip
    asked = request(
        customer_id="stranger" if _one_in(rng, 10) else f"c-{rng.integers(50)}",
        context={"cart_value": float(rng.integers(30))} if _one_in(rng, 2) else {},
        exclude=(IDS[0],) if _one_in(rng, 6) else (),
        mode="preview" if _one_in(rng, 10) else "live",
        decision_id=decision_id,
        **where,
    )  # fmt: skip
    return asyncio.run(engine.decide_placements(asked, now=NOW))


def back(record: DecisionRecord) -> DecisionRecord:
    """Through the ledger and back."""
    return msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord)


def _one_in(rng: np.random.Generator, n: int) -> bool:
    return bool(rng.integers(n) == 0)
