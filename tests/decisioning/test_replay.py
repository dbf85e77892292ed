import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.catalog import Catalog, Release
from decisioning.content_types import NO_ACTION
from decisioning.errors import SetupError
from decisioning.record import DecisionRecord
from decisioning.replay import Replayed, replay
from serving.engine import Engine
from tests.builders import CONSENTED, NOW, action, contact, release, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer
from tests.random_shops import KEY, FailsAtReservation, back, random_decisions

# What the funnel worked out; the other fields are what it was told.
# How far a score may be off, and what members say, is given, not worked out, and not every policy asks.
DOUBT = r"\.candidates\.\d+\.1[23]"
WORKED_OUT = ("expires_at", "domain", "market", "placement", "channel", "assignments", "dropped", "candidates", "slots",
              "reason", "reason_detail", "policy", "contact_at", "stages")  # fmt: skip


def shop(**overrides: Any) -> Release:
    return release(
        action("card"), action("loan", group="loans", rank_by="uplift"), action("insurance"),
        action(NO_ACTION, group="other", value=1.0), **overrides,
    )  # fmt: skip


def decided(
    asked_of: Release,
    hot: FakeHotState | None = None,
    *,
    uplifts: dict[str, float] | None = None,
    **fields: Any,
) -> DecisionRecord:
    engine = Engine(
        release=asked_of,
        features=FakeFeatures(),
        hot_state=hot or FakeHotState(CONSENTED),
        ledger=FakeLedger(),
        scorer=FakeScorer({"card": 0.3, "loan": 0.25, "insurance": 0.2, NO_ACTION: 0.1}, uplifts=uplifts),
        draw_key=KEY,
    )
    return back(asyncio.run(engine.decide(request(**{"decision_id": "d-1"} | fields), now=NOW)))


def again(record: DecisionRecord, asked_of: Release) -> Replayed:
    return replay(record, asked_of.blueprint, key=KEY.secret)


def place_of(record: DecisionRecord, action_id: str) -> int:
    return [candidate.action_id for candidate in record.candidates].index(action_id)


def changed(value: Any) -> Any:
    """The smallest change of a leaf that is one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return float(np.nextafter(value, np.inf))
    return None


def changed_numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every copy of a document in which one number is another."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, part in parts:
        new = changed(part)
        found = [("", new)] if new is not None else changed_numbers(part)
        for inner, replaced in found:
            copy = dict(value) if isinstance(value, dict) else list(value)
            copy[place] = replaced
            yield f".{place}{inner}", copy


def test_a_thousand_random_decisions_come_out_again() -> None:
    met: Counter[str] = Counter()
    for seed in range(50):
        alone = seed % 3 == 0
        for asked_of, record in random_decisions(np.random.default_rng(seed), 18, alone=alone):
            found = again(record, asked_of)
            assert found.identical, (seed, record.decision_id, found.differences)
            if alone:
                assert found.verdict == "identical", (seed, record.decision_id)
            met["interleaved"] += found.changed_meanwhile
            met.update(
                ["decisions", record.reason, f"slots {len(record.slots)}", *(drop.reason for drop in record.dropped)]
            )
            met["continued"] += any(candidate.tier < 0 for candidate in record.candidates)
            met["shadow"] += record.shadow is not None
            met["apprentice"] += record.apprentice
            met["by uplift"] += any(candidate.uplift is not None for candidate in record.candidates)
    assert met["decisions"] >= 1000
    for what in (
        "RANKED", "HOLDOUT", "NO_ELIGIBLE_ACTION", "FALLBACK_UNKNOWN_CUSTOMER", "FALLBACK_FEATURES_UNAVAILABLE",
        "FALLBACK_MODEL_UNAVAILABLE", "FALLBACK_HOT_STATE_UNAVAILABLE", "slots 3", "CAP_REACHED", "BUDGET_SPENT",
        "COOL_DOWN", "QUIET_HOURS", "STAGE", "FOLLOWED_UP", "SHOWN_ELSEWHERE", "TAKEN_MEANWHILE", "RULE_ERROR",
        "HELD_OUT", "NOT_A_FALLBACK", "continued", "by uplift", "interleaved", "shadow",
            "apprentice",
    ):  # fmt: skip
        assert met[what] >= 10, what


def test_an_uplift_that_the_model_learnt_comes_out_again() -> None:
    record = decided(shop(), uplifts={"loan": 0.07, "card": 0.2})
    loan = record.candidates[place_of(record, "loan")]
    assert loan.uplift == pytest.approx(0.07)
    assert loan.priority == pytest.approx(0.7)
    assert record.baseline is None
    assert again(record, shop()).verdict == "identical"


def test_every_number_that_the_funnel_worked_out_is_held_to_the_last_bit() -> None:
    asked_of = shop(contact_policies=(weekly_cap(limit=2, per="group"),))
    record = decided(asked_of)
    assert again(record, asked_of) == Replayed(record.decision_id, identical=True)
    document = msgspec.json.decode(msgspec.json.encode(record))
    tried = 0
    for name in WORKED_OUT:
        for path, part in changed_numbers({name: document[name]}):
            if re.fullmatch(DOUBT, path):
                continue
            other = msgspec.convert({**document, **part}, DecisionRecord)
            found = again(other, asked_of)
            tried += 1
            assert found.verdict != "identical", path
            if "available" not in path:
                assert not found.identical
                assert path.strip(".").split(".")[0] in found.differences[0].path, path
    assert tried > 40


@pytest.mark.parametrize(
    "change",
    [
        {"features": {"age": 20.0, "city": "ulm"}},
        {"purchases": (("shoe", NOW),)},
        {"paused": ("card",)},
        {"baseline": 0.11},
        {"contacts": ()},
        {"draw_id": "another"},
        {"elsewhere": ("card",)},
        {"hot_known": False},
        {"known": False},
        {"model": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_fact_on_which_the_decision_hung_is_found(change: dict[str, Any]) -> None:
    asked_of = release(
        action("card", suitability="customer.age > 30.0"), action("loan", rank_by="uplift", promotes=("shoe",)),
        action("insurance", group="loans"), action(NO_ACTION), contact_policies=(weekly_cap(limit=3, per="group"),),
    )  # fmt: skip
    seen = msgspec.structs.replace(CONSENTED, contacts=tuple(contact("card", group="loans") for _ in range(3)))
    # Of these ids, one whose draw falls out otherwise under the other id.
    record = decided(asked_of, FakeHotState(seen), decision_id="d-4")
    assert again(record, asked_of).identical
    other = msgspec.convert({**msgspec.to_builtins(record), **change}, DecisionRecord)
    assert not again(other, asked_of).identical


def test_a_place_that_was_lost_replays() -> None:
    asked_of = shop(contact_policies=(weekly_cap(limit=1, per="group"),))
    hot = FakeHotState(CONSENTED)
    hot.taken_by_others = (contact("card", ago=NOW - NOW),)
    record = decided(asked_of, hot)
    assert [drop.reason for drop in record.dropped] == ["TAKEN_MEANWHILE"] * 2
    found = again(record, asked_of)
    assert found.identical
    assert found.changed_meanwhile
    assert found.verdict.startswith("identical, given what was available at the reservation")


def test_a_record_whose_availability_was_altered_is_never_called_identical_outright() -> None:
    asked_of = shop()
    record = decided(asked_of, exclude=[NO_ACTION])
    assert again(record, asked_of).verdict == "identical"
    [first, second] = record.slots
    only = msgspec.structs.replace(first, available=(place_of(record, first.action_id),))
    # What the first slot could not get, the second cannot have got.
    assert again(msgspec.structs.replace(record, slots=(only, second)), asked_of).verdict == "NOT identical"
    # All that there is to say of one slot that could have got less, where that changes no chance.
    rest = [place for place in second.available if record.candidates[place].tier == record.candidates[0].tier]
    assert len(rest) > 1
    alone = msgspec.structs.replace(second, available=(place_of(record, second.action_id),), probability=1.0)
    found = again(msgspec.structs.replace(record, slots=(first, alone)), asked_of)
    assert (found.identical, found.changed_meanwhile) == (True, True)
    assert "something changed between read and reservation" in found.verdict


def test_hot_state_that_fails_at_the_reservation_replays() -> None:
    asked_of = shop()
    record = decided(asked_of, FailsAtReservation(CONSENTED))
    assert record.reason == "FALLBACK_HOT_STATE_UNAVAILABLE"
    assert again(record, asked_of).identical


def test_a_difference_says_where_and_what() -> None:
    asked_of = shop()
    record = decided(asked_of)
    slot = msgspec.structs.replace(record.slots[0], probability=0.5)
    [difference] = again(msgspec.structs.replace(record, slots=(slot, *record.slots[1:])), asked_of).differences
    assert (difference.path, difference.was) == ("slots[0].probability", 0.5)
    assert difference.now == record.slots[0].probability
    assert set(msgspec.to_builtins(difference)) == {"path", "was", "is"}


def test_an_action_that_was_never_scored_is_a_difference_and_no_crash() -> None:
    asked_of = shop()
    record = decided(asked_of)
    fewer = msgspec.structs.replace(record, candidates=record.candidates[1:])
    [difference, *_] = again(fewer, asked_of).differences
    assert difference.path == "candidates"
    assert difference.now == ["card", "loan", "insurance", NO_ACTION]


def test_availability_that_no_candidate_has_is_a_difference_and_no_crash() -> None:
    asked_of = shop()
    record = decided(asked_of)
    slot = msgspec.structs.replace(record.slots[0], available=(0, 1, 2, 99))
    assert not again(msgspec.structs.replace(record, slots=(slot, *record.slots[1:])), asked_of).identical


def test_another_secret_is_refused_by_name() -> None:
    asked_of = shop()
    record = decided(asked_of)
    with pytest.raises(SetupError, match=f"drawn with the secret {KEY.key_id}.*NEXTMOVE_DRAW_SECRET"):
        replay(record, asked_of.blueprint, key=b"another secret 16")


def test_another_catalogue_is_refused_by_name() -> None:
    asked_of = shop()
    record = decided(asked_of)
    other = Catalog(asked_of.blueprint.content, version="sha256:other")
    with pytest.raises(SetupError, match="made under catalogue sha256:test"):
        replay(record, other, key=KEY.secret)
