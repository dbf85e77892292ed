from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from decisioning.events import EventRecord
from decisioning.record import Assignment, DecisionRecord, OutcomeRecord
from decisioning.vocabulary import Vocabulary
from tests import builders
from tests.builders import NOW, action, candidate, catalog, contact, placement, request, slot
from tests.training.tiny_shop import tiny_catalog, tiny_log
from training.examples import LEDGER_WINDOW, combined, ledger_examples, log_examples, met_by_customers
from training.model_input import encode_shown, learn_features
from training.target_policies import drawn_decisions

DECIDED = NOW - timedelta(days=10)


class FakeLedger:
    """A ledger that holds what it was given."""

    def __init__(
        self,
        *records: DecisionRecord,
        outcomes: tuple[OutcomeRecord, ...] = (),
        events: tuple[EventRecord, ...] = (),
    ) -> None:
        self._records = records
        self._outcomes = outcomes
        self._events = events

    def decisions(
        self, domain: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[DecisionRecord]:
        return (r for r in self._within(since, until) if r.domain == domain)

    def all_decisions(
        self,
        kind: type[Any],
        *,
        domain: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        containing: bytes = b"",
    ) -> Iterator[Any]:
        for each in (r for r in self._within(since, until) if domain in (None, r.domain)):
            encoded = msgspec.json.encode(each)
            if containing in encoded:
                yield msgspec.json.decode(encoded, type=kind)

    def outcomes(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, list[OutcomeRecord]]:
        decided = {record.decision_id for record in self._within(since, until)}
        found: dict[str, list[OutcomeRecord]] = {}
        for each in self._outcomes:
            if each.decision_id in decided:
                found.setdefault(each.decision_id, []).append(each)
        return found

    def events(
        self,
        domain: str,
        *,
        types: Collection[str] | None = None,
        names: Collection[str] | None = None,
        received_since: datetime | None = None,
    ) -> Iterator[EventRecord]:
        for each in self._events:
            if (types is None or each.type in types) and (names is None or each.name in names):
                yield each

    def _within(self, since: datetime | None, until: datetime | None) -> list[DecisionRecord]:
        return [
            record
            for record in self._records
            if (since is None or since <= record.decided_at) and (until is None or record.decided_at < until)
        ]


def shop() -> Catalog:
    hero = placement(shown_by="decision", reward={"click": 0.5, "purchase": "value"})
    mail = placement("newsletter", channel="email", slots=1, shown_by="sent", reward={"click": 1.0})
    return catalog(placements=(hero, mail))


def record(**overrides: Any) -> DecisionRecord:
    return builders.record(**({"decided_at": DECIDED} | overrides))


def outcome(kind: str, **overrides: Any) -> OutcomeRecord:
    defaults: dict[str, Any] = {
        "outcome_id": f"{kind}-{overrides.get('action_id', 'card')}", "decision_id": "d-1", "action_id": "card",
        "type": kind, "detail": None, "value": None, "occurred_at": DECIDED + timedelta(hours=1), "received_at": NOW,
    }  # fmt: skip
    return OutcomeRecord(**(defaults | overrides))


def bought(**overrides: Any) -> EventRecord:
    """A till's order of a mug, a day after the decision."""
    defaults: dict[str, Any] = {
        "event_id": "till/1", "source": "till", "type": "track", "name": "purchase", "customer_id": "c-1",
        "properties": {"order_id": "A-1", "products": [{"product_id": "mug", "price": 12.5}]},
        "occurred_at": DECIDED + timedelta(days=1), "received_at": NOW,
    }  # fmt: skip
    return EventRecord(**(defaults | overrides))


def rows(*records: DecisionRecord, outcomes: tuple[OutcomeRecord, ...] = (), now: datetime = NOW) -> pd.DataFrame:
    return ledger_examples(FakeLedger(*records, outcomes=outcomes), shop(), now=now)


def learnt(*records: DecisionRecord, outcomes: tuple[OutcomeRecord, ...] = (), now: datetime = NOW) -> pd.DataFrame:
    found = rows(*records, outcomes=outcomes, now=now)
    return found if found.empty else met_by_customers(found)


def test_a_decision_becomes_a_row_with_what_was_logged() -> None:
    row = rows(record(), outcomes=(outcome("click"), outcome("purchase", value=9.5))).iloc[0]
    assert row["row_id"] == "d-1/1"
    assert (row["reward"], row["success"], row["probability"], row["drawn"]) == (10.0, 1, 0.5, True)
    assert row["candidates"] == ("card", "loan", NO_ACTION)
    assert row["context_weights"] == (2.0, 1.0, 1.0)
    assert row["values"] == (25.0, 1.0, 1.0)
    assert row["contacts"] == (contact(),)
    assert (row["customer.age"], row["customer.colour"], row["context"]["device"]) == (50.0, "red", "mobile")


def test_a_context_value_that_names_a_feature_supplies_it() -> None:
    log, features = tiny_log(60)
    log["context"] = [{}] * 3 + [{"age": 33.0, "colour": "octarine"}, {"age": None}] + [{}] * 55
    logged = log_examples(log, features, tiny_catalog())
    assert (logged.at[3, "customer.age"], logged.at[3, "customer.colour"]) == (33.0, "octarine")
    assert logged["customer.age"].drop(3).tolist() == features["age"].drop(3).tolist()
    assert logged["customer.age"].dtype == float


def test_features_over_events_are_learnt_as_they_were_logged_and_missing_before_they_were_declared() -> None:
    before = [record(decision_id=f"d-{n}", decided_at=DECIDED - timedelta(hours=1)) for n in range(30)]
    known = {"orders_7d": 2.0, "since_order": None, "last_country": "CH"}
    after = [record(decision_id=f"e-{n}", features={**record().features, **known}) for n in range(30)]
    found = combined(rows(*before), rows(*after))
    features = learn_features(found, shop())
    assert {(each.name, each.kind) for each in features if each.name in known} == {
        ("orders_7d", "number"), ("since_order", "number"), ("last_country", "category"),
    }  # fmt: skip
    encoded = encode_shown(features, found, shop())
    [orders, last] = ([each.name for each in features].index(name) for name in ("orders_7d", "last_country"))
    assert np.isnan(encoded[:30, orders]).all()
    assert np.isnan(encoded[:30, last]).all()
    assert set(encoded[30:, orders]) == {2.0}
    assert set(encoded[30:, last]) == {0.0}


def test_names_that_callers_make_up_are_no_columns() -> None:
    made_up = (
        record(decision_id=f"d-{n}", request=request(context={f"k-{n}-{m}": m for m in range(10)})) for n in range(1000)
    )
    found = rows(*made_up)
    assert len(found) == 1000
    assert set(found.columns) == set(rows(record()).columns)


def test_a_decision_is_no_row_before_its_window_closes() -> None:
    closes = DECIDED + timedelta(days=7)
    assert rows(record(), now=closes - timedelta(microseconds=1)).empty
    assert len(rows(record(), now=closes)) == 1


def test_an_outcome_after_the_window_earns_nothing() -> None:
    late = outcome("click", occurred_at=DECIDED + timedelta(days=7))
    assert rows(record(), outcomes=(late,)).iloc[0]["reward"] == 0.0


def test_a_machine_earns_nothing() -> None:
    assert rows(record(), outcomes=(outcome("click", detail="machine"),)).iloc[0]["success"] == 0


@pytest.mark.parametrize("kind", ["not_sent", "bounce"])
def test_what_was_not_delivered_is_not_learnt_from(kind: str) -> None:
    assert learnt(record(), outcomes=(outcome(kind),)).empty


def test_a_newsletter_is_learnt_from_once_it_was_sent() -> None:
    sent = record(placement="newsletter", channel="email")
    assert learnt(sent).empty
    assert len(learnt(sent, outcomes=(outcome("sent"),))) == 1


def test_a_draw_that_was_not_met_is_weighed_and_not_learnt_from() -> None:
    unmet = record(placement="newsletter", channel="email")
    found = rows(unmet)
    assert found[["met", "reward", "success", "drawn"]].values.tolist() == [[False, 0.0, 0, True]]
    assert len(drawn_decisions(found, shop()).examples) == 1
    assert met_by_customers(found).empty
    going_on = (candidate("card", tier=-1), candidate("loan"), candidate(NO_ACTION))
    for not_drawn in ({"candidates": going_on}, {"slots": (slot(probability=None),)}):
        assert rows(msgspec.structs.replace(unmet, **not_drawn)).empty  # type: ignore[arg-type]


def test_a_planned_push_has_its_window_from_the_contact_on() -> None:
    planned = record(placement="newsletter", channel="email", contact_at=DECIDED + timedelta(days=2))
    sent = outcome("sent", occurred_at=DECIDED + timedelta(days=2))
    clicked = outcome("click", occurred_at=DECIDED + timedelta(days=8))
    closes = DECIDED + timedelta(days=9)
    assert rows(planned, outcomes=(sent, clicked), now=closes - timedelta(microseconds=1)).empty
    assert learnt(planned, outcomes=(sent, clicked), now=closes)["success"].tolist() == [1]


def test_what_happens_on_a_reload_counts_for_the_first_decision() -> None:
    web = catalog(placements=(placement(reward={"click": 1.0}),))
    reloaded = record(
        decision_id="d-2",
        decided_at=DECIDED + timedelta(minutes=5),
        candidates=(candidate("card", tier=-1), candidate("loan")),
        slots=(slot(repeats="d-1", available=(0, 1), probability=1.0),),
    )
    seen = outcome("impression")
    clicked = outcome("click", decision_id="d-2", action_id=None)
    [row] = ledger_examples(FakeLedger(record(), reloaded, outcomes=(seen, clicked)), web, now=NOW).to_dict("records")
    assert (row["row_id"], row["reward"], row["drawn"], row["met"]) == ("d-1/1", 1.0, True, True)


def test_what_happens_on_a_reload_counts_within_the_first_decisions_window_only() -> None:
    reloaded = record(
        decision_id="d-2", decided_at=DECIDED + timedelta(minutes=5), slots=(slot(repeats="d-1", probability=1.0),)
    )
    late = outcome("click", decision_id="d-2", occurred_at=DECIDED + timedelta(days=7))
    assert rows(record(), reloaded, outcomes=(late,))[["row_id", "reward"]].values.tolist() == [["d-1/1", 0.0]]


def test_each_slot_is_a_row_with_its_own_outcomes() -> None:
    two = record(slots=(slot(), slot(2, "loan", available=(1, 2), probability=0.75)))
    found = rows(two, outcomes=(outcome("click", action_id="loan"),))
    assert found["row_id"].tolist() == ["d-1/1", "d-1/2"]
    assert found["slot"].tolist() == [1, 2]
    assert found["action_id"].tolist() == ["card", "loan"]
    assert found["success"].tolist() == [0, 1]
    assert found["candidates"].tolist()[1] == ("loan", NO_ACTION)
    assert found["probability"].tolist() == [0.5, 0.75]


def test_an_outcome_that_names_no_action_is_that_of_an_only_one() -> None:
    unnamed = (outcome("click", action_id=None),)
    assert rows(record(), outcomes=unnamed)["success"].tolist() == [1]
    two = record(slots=(slot(), slot(2, "loan", available=(1, 2))))
    assert rows(two, outcomes=unnamed)["success"].tolist() == [0, 0]


def test_a_decision_whose_features_could_not_be_read_is_no_row() -> None:
    assert rows(record(reason="FALLBACK_FEATURES_UNAVAILABLE")).empty
    assert len(rows(record(reason="FALLBACK_UNKNOWN_CUSTOMER"))) == 1


def test_of_a_decision_that_could_not_use_history_none_is_learnt() -> None:
    [row] = rows(record(personal=False)).to_dict("records")
    assert row["contacts"] == ()


def test_the_newest_part_of_the_ledger_is_read() -> None:
    last = DECIDED + LEDGER_WINDOW
    assert len(rows(record(), outcomes=(outcome("click"),), now=last)) == 1
    assert rows(record(), outcomes=(outcome("click"),), now=last + timedelta(microseconds=1)).empty


def test_a_fallback_may_be_learnt_from_and_is_never_weighed() -> None:
    row = rows(record(slots=(slot(probability=None),), reason="FALLBACK_MODEL_UNAVAILABLE")).iloc[0]
    assert not row["drawn"]
    assert pd.isna(row["probability"])


@pytest.mark.parametrize(("reason", "weighed"), [("FORCED", False), ("SPLIT", True)])
def test_a_tester_may_be_learnt_from_and_is_never_weighed(reason: str, weighed: bool) -> None:
    [row] = rows(record(assignments=(Assignment("copy", "a", 0.5, reason),))).to_dict("records")
    assert row["drawn"] is weighed
    assert len(drawn_decisions(pd.DataFrame([row]), shop()).examples) == weighed


def test_what_goes_on_from_an_earlier_decision_may_be_learnt_from_and_is_never_weighed() -> None:
    going_on = (candidate("card", tier=-1), candidate("loan"), candidate(NO_ACTION))
    [row] = rows(record(candidates=going_on, slots=(slot(probability=1.0),))).to_dict("records")
    assert not row["drawn"]
    assert drawn_decisions(pd.DataFrame([row]), shop()).examples.empty


def test_a_data_sets_own_log_gets_the_catalogues_values() -> None:
    priced = tiny_catalog(rates={"USD": 0.5})
    actions = [
        msgspec.structs.replace(priced.actions["umbrella"], value=30.0, currency="USD"),
        msgspec.structs.replace(priced.actions["sunglasses"], value="customer.age * 2.0 + context.bonus"),
        priced.actions[NO_ACTION],
    ]
    content = msgspec.structs.replace(priced.content, actions=tuple(actions))
    log, features = tiny_log(60)
    log["context"] = [{}, {"bonus": 3.0}, {"bonus": 3.0, "age": 50.0}] + [{}] * 57
    found = log_examples(log, features, Catalog(content, version="sha256:priced"))["values"]
    assert found[0] == (15.0, 0.0, 1.0)  # a rule that errs is worth nothing
    assert found[1] == (15.0, features["age"][1] * 2.0 + 3.0, 1.0)
    assert found[2] == (15.0, 103.0, 1.0)


def test_a_decision_of_another_domain_is_no_row() -> None:
    assert rows(record(domain="other")).empty


def test_a_log_without_features_for_a_row_is_refused() -> None:
    log, features = tiny_log(60)
    with pytest.raises(DataError, match="59 of 60 rows"):
        log_examples(log, features.iloc[1:], tiny_catalog())


def test_a_log_that_lacks_a_column_is_refused() -> None:
    log, features = tiny_log(60)
    with pytest.raises(DataError, match="probability"):
        log_examples(log.drop(columns="probability"), features, tiny_catalog())


def test_log_and_ledger_go_together_in_the_order_of_time() -> None:
    log, features = tiny_log(60)
    logged = log_examples(log, features, tiny_catalog())
    both = combined(logged, rows(record(decided_at=logged["decided_at"].iloc[30].to_pydatetime())))
    assert len(both) == 61
    assert both["decided_at"].is_monotonic_increasing
    assert both["source"].value_counts().to_dict() == {"log": 60, "ledger": 1}
    assert both.loc[both["source"] == "ledger", "context"].tolist() == [{"device": "mobile", "age": 50.0}]


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        combined(pd.DataFrame(), pd.DataFrame())


def test_an_action_with_its_attributes_is_not_needed_to_read_the_ledger() -> None:
    bare = catalog(action("card"), placements=(placement(shown_by="decision"),))
    assert len(ledger_examples(FakeLedger(record()), bare, now=NOW)) == 1


@pytest.mark.parametrize("kind", ["not_sent", "bounce"])
def test_an_e_mail_that_came_back_was_seen_in_none_of_its_slots(kind: str) -> None:
    two = record(slots=(slot(), slot(2, "loan", available=(1, 2))))
    assert learnt(two, outcomes=(outcome(kind, action_id=None),)).empty


def test_a_tills_order_is_the_reward_of_the_decision_that_promoted_the_product_to_that_person() -> None:
    seen = record(customer_id="anonymous:v-1", slots=(slot(products=("mug",)),))
    login = bought(event_id="till/2", type="identify", name="identify", anonymous_id="v-1", properties={})
    for events, earned in (((bought(), login), 12.5), ((bought(),), 0.0)):
        ledger = FakeLedger(seen, events=events)
        assert ledger_examples(ledger, shop(), now=NOW)["reward"].tolist() == [earned]


def test_an_order_of_the_control_is_earned_by_a_fallback_action_alone_which_is_never_weighed() -> None:
    fallback = record(reason="HOLDOUT", slots=(slot(probability=None, products=("mug",)),))
    [row] = ledger_examples(FakeLedger(fallback, events=(bought(),)), shop(), now=NOW).to_dict("records")
    assert (row["reward"], row["met"], row["drawn"]) == (12.5, True, False)
    nothing = record(reason="HOLDOUT", slots=(), candidates=())
    assert ledger_examples(FakeLedger(nothing, events=(bought(),)), shop(), now=NOW).empty


@pytest.mark.parametrize("told_as", ["Order Refunded", "Order Cancelled"])
def test_a_refund_takes_nothing_back(told_as: str) -> None:
    order = bought()
    translated = Vocabulary(()).translate("till", told_as, {"products": order.properties["products"]})
    assert translated is not None
    refund = bought(event_id="till/2", name=translated.name, properties=translated.properties)
    ledger = FakeLedger(record(slots=(slot(products=("mug",)),)), events=(order, refund))
    assert ledger_examples(ledger, shop(), now=NOW)["reward"].tolist() == [12.5]


def test_features_that_only_some_decisions_have_are_missing_elsewhere() -> None:
    kinds = ({"a": 1.0}, {"b": "x"}, {"a": 2, "b": None}, {"c": True})
    found = rows(*(record(decision_id=f"d-{n}", features=each) for n, each in enumerate(kinds)))
    found = found.sort_values("row_id")
    np.testing.assert_array_equal(found["customer.a"].to_numpy(dtype=float), [1.0, np.nan, 2.0, np.nan])
    assert found["customer.b"].tolist() == [None, "x", None, None]
    assert found["customer.c"].tolist() == [None, None, None, True]
