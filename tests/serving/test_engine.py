import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from decisioning.catalog import Catalog, Release
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.errors import DecisionConflict, RequestError, StoreError
from decisioning.profile import HotProfile
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from serving.engine import DrawKey, Engine
from tests.builders import CONSENTED, NOW, action, catalog, contact, release, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer


class Shop:
    """An engine over fakes, and hands on each of them."""

    def __init__(
        self, shop: Catalog | None = None, *, hot: HotProfile = CONSENTED, scorer: FakeScorer | None = None
    ) -> None:
        self.features, self.hot_state, self.ledger = FakeFeatures(), FakeHotState(hot), FakeLedger()
        self.scorer = scorer or FakeScorer()
        self.engine = Engine(
            release=Release({BLUEPRINT: (shop or catalog()).content}, version="sha256:test"),
            features=self.features,
            hot_state=self.hot_state,
            ledger=self.ledger,
            scorer=self.scorer,
            draw_key=DrawKey(b"0123456789abcdef"),
        )

    def decide(self, asked: DecisionRequest | None = None, **fields: Any) -> DecisionRecord:
        return asyncio.run(self.engine.decide(asked or request(**fields), now=NOW))

    def report(self, *reports: dict[str, Any]) -> list[Any]:
        bodies = [msgspec.convert(report, OutcomeReport) for report in reports]
        return asyncio.run(self.engine.record_outcomes(bodies, now=NOW))


def shown(record: DecisionRecord) -> list[str]:
    return [slot.action_id for slot in record.slots]


def test_a_decision_is_in_the_ledger_when_it_is_answered() -> None:
    shop = Shop()
    record = shop.decide()
    assert shop.ledger.decisions[record.decision_id][0] == record
    assert record.reason == "RANKED"


def test_the_record_survives_its_way_through_the_ledger() -> None:
    record = Shop().decide(context={"cart_value": 12.5})
    assert msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord) == record


def test_the_model_sees_customer_context_action_and_history() -> None:
    shop = Shop(hot=HotProfile(contacts=(contact("card"), contact("card", ago=timedelta(days=8)))))
    shop.decide(context={"cart_value": 12.5})
    assert shop.scorer.rows is not None
    assert shop.scorer.rows[0].tolist() == [41.0, 0.0, 12.5, 0.0, 1.0]


def test_a_request_value_beats_the_stored_one_for_rules_and_model_and_the_record_says_so() -> None:
    shop = Shop(catalog(action("card", eligibility="customer.age < 30.0"), action("loan")))
    record = shop.decide(context={"age": 20.0})
    assert "card" in shown(record)
    assert record.features["age"] == 20.0
    assert record.overridden == ("age",)
    assert shop.scorer.rows is not None
    assert shop.scorer.rows[0][0] == 20.0


def test_an_unknown_customer_is_ranked_from_context_alone() -> None:
    record = Shop().decide(customer_id="stranger")
    assert record.reason == "FALLBACK_UNKNOWN_CUSTOMER"
    assert record.features == {"age": None, "city": None, "account_id": None}
    assert all(slot.probability is not None for slot in record.slots)


def test_an_anonymous_visitor_is_answered() -> None:
    record = Shop().decide(customer_id=None, anonymous_id="a-1")
    assert record.customer_id == "anonymous:a-1"
    assert shown(record)


def test_preview_keeps_and_reserves_nothing() -> None:
    shop = Shop()
    assert shown(shop.decide(mode="preview"))
    assert shop.ledger.decisions == {}
    assert shop.hot_state.contacts == []


def test_a_repeated_id_gets_the_first_answer_again() -> None:
    shop = Shop()
    first = shop.decide(decision_id="d-1")
    shop.engine.scorer = None
    assert shop.decide(decision_id="d-1") == first
    assert len(shop.hot_state.contacts) == len(shown(first))


def test_a_repeated_id_with_another_body_is_a_conflict_that_carries_the_first() -> None:
    shop = Shop()
    first = shop.decide(decision_id="d-1")
    with pytest.raises(DecisionConflict) as raised:
        shop.decide(decision_id="d-1", limit=1)
    assert raised.value.first == first


def test_twins_sent_at_once_get_one_decision() -> None:
    shop = Shop()

    async def both() -> list[Any]:
        asked = request(decision_id="d-1")
        return await asyncio.gather(*(shop.engine.decide(asked, now=NOW) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first == second


def test_nothing_leaves_when_the_ledger_is_down() -> None:
    shop = Shop()
    shop.ledger.down = True
    with pytest.raises(StoreError):
        shop.decide()


def test_without_features_the_context_ranks_and_the_reason_says_so() -> None:
    shop = Shop()
    shop.features.down = True
    assert shop.decide().reason == "FALLBACK_FEATURES_UNAVAILABLE"


def test_without_a_model_the_fallback_is_shown_without_a_probability() -> None:
    shop = Shop(catalog(action("card"), action("loan", fallback=True)))
    shop.engine.scorer = None
    record = shop.decide()
    assert (record.reason, shown(record)) == ("FALLBACK_MODEL_UNAVAILABLE", ["loan"])
    assert record.slots[0].probability is None
    assert not record.drawn


def test_without_hot_state_only_a_fallback_that_needs_neither_consent_nor_cap_is_shown() -> None:
    free, capped = action("card", fallback=True), action("loan", group="loans", fallback=True)
    shop = Shop(catalog(free, capped, contact_policies=(weekly_cap(1, per="group", only="loans"),)))
    shop.hot_state.down = True
    record = shop.decide()
    assert (record.reason, shown(record)) == ("FALLBACK_HOT_STATE_UNAVAILABLE", ["card"])
    assert shown(shop.decide(placement="newsletter")) == []


def test_only_showing_nothing_left_is_no_eligible_action() -> None:
    shop = Shop(hot=HotProfile())
    record = shop.decide(placement="newsletter")
    assert (record.reason, shown(record)) == ("NO_ELIGIBLE_ACTION", [])
    assert not record.drawn


def test_a_slot_taken_meanwhile_goes_to_the_next_with_its_own_probability() -> None:
    actions = (action("card"), action("loan", group="loans"))
    shop = Shop(catalog(*actions, contact_policies=(weekly_cap(1, per="group", only="cards"),)))
    shop.hot_state.taken_by_others = (contact("card", ago=timedelta(0)),)
    record = shop.decide()
    assert shown(record) == ["loan"]
    assert record.slots[0].probability == 1.0
    assert record.slots[0].available == (1,)
    assert ("card", "reservation") in [(drop.action_id, drop.step) for drop in record.dropped]


def test_a_cap_closes_the_second_slot_of_the_same_answer() -> None:
    shop = Shop(catalog(action("card"), action("gold"), contact_policies=(weekly_cap(1),)))
    assert len(shown(shop.decide())) == 1


def test_a_context_value_of_the_wrong_kind_is_refused_with_its_place() -> None:
    with pytest.raises(RequestError) as raised:
        Shop().decide(context={"age": "old"})
    assert raised.value.where == "context.age"


def test_every_request_of_a_batch_has_its_own_result() -> None:
    shop = Shop()
    asked = [request(), request(placement="nowhere"), request(customer_id="stranger")]
    results = asyncio.run(shop.engine.decide_many(asked, now=NOW))
    assert [isinstance(result, tuple) for result in results] == [True, False, True]


def test_an_outcome_is_kept_once_and_hot_state_hears_of_it() -> None:
    shop = Shop()
    record = shop.decide(limit=1, exclude=[NO_ACTION])
    report = {"decision_id": record.decision_id, "type": "impression", "outcome_id": "o-1"}
    assert [result.status for result in shop.report(report, report)] == ["accepted", "duplicate"]
    assert shop.hot_state.applied[0].outcome.action_id == record.slots[0].action_id


def test_an_outcome_id_with_another_body_is_rejected() -> None:
    shop = Shop()
    record = shop.decide(limit=1)
    report = {"decision_id": record.decision_id, "type": "impression", "outcome_id": "o-1"}
    results = shop.report(report, report | {"type": "accept"})
    assert [result.status for result in results] == ["accepted", "rejected"]
    assert results[1].problem.code == "outcome_id_reused"


def test_an_outcome_of_an_unknown_decision_is_kept() -> None:
    shop = Shop()
    [result] = shop.report({"decision_id": "later", "action_id": "card", "type": "accept"})
    assert result.status == "accepted"
    assert shop.ledger.outcomes[result.outcome_id][0].decision_id == "later"


def test_an_outcome_for_an_action_that_was_not_shown_is_rejected_and_its_neighbours_are_kept() -> None:
    shop = Shop()
    record = shop.decide(limit=1, exclude=[NO_ACTION])
    wrong = {"decision_id": record.decision_id, "type": "accept", "action_id": "ghost"}
    right = {"decision_id": record.decision_id, "type": "accept"}
    assert [result.status for result in shop.report(wrong, right)] == ["rejected", "accepted"]
    assert len(shop.ledger.outcomes) == 1


def test_an_outcome_from_the_future_is_rejected() -> None:
    shop = Shop()
    ahead = (NOW + timedelta(hours=1)).isoformat()
    [result] = shop.report({"decision_id": "d", "type": "accept", "occurred_at": ahead})
    assert result.problem.where == "occurred_at"


def test_a_preview_does_not_foretell_the_live_draw() -> None:
    same = 0
    for number in range(60):
        shop = Shop()
        asked = {"decision_id": f"d-{number}", "limit": 1}
        same += shown(shop.decide(**asked, mode="preview")) == shown(shop.decide(**asked))
    assert same < 60


def test_a_retry_gets_the_first_answer_although_the_catalogue_changed() -> None:
    shop = Shop()
    first = shop.decide(decision_id="d-1", exclude=["loan"])
    shop.engine.release = release(action("card"))
    assert shop.decide(decision_id="d-1", exclude=["loan"]) == first


def test_twins_without_any_candidate_are_one_decision_too() -> None:
    shop = Shop(hot=HotProfile())

    async def both() -> list[Any]:
        asked = request(decision_id="d-1", placement="newsletter")
        return await asyncio.gather(*(shop.engine.decide(asked, now=NOW) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first is second


def test_an_unsubscribe_that_came_before_its_decision_is_obeyed_when_it_comes() -> None:
    shop = Shop()
    shop.report({"decision_id": "d-1", "type": "unsubscribe"})
    assert shop.hot_state.applied == []
    shop.decide(decision_id="d-1")
    assert [told.outcome.type for told in shop.hot_state.applied] == ["unsubscribe"]


def test_an_unsubscribe_need_not_say_from_which_action() -> None:
    shop = Shop(catalog(action("card"), action("loan")))
    record = shop.decide()
    assert len(record.slots) == 2
    [result] = shop.report({"decision_id": record.decision_id, "type": "unsubscribe"})
    assert result.status == "accepted"


def test_a_duplicate_is_applied_as_it_was_kept() -> None:
    shop = Shop()
    record = shop.decide(limit=1)
    report = {"decision_id": record.decision_id, "type": "unsubscribe", "outcome_id": "o-1"}
    shop.report(report)
    asyncio.run(shop.engine.record_outcomes([msgspec.convert(report, OutcomeReport)], now=NOW + timedelta(days=1)))
    assert [told.outcome.occurred_at for told in shop.hot_state.applied] == [NOW, NOW]


def test_on_a_suppressed_channel_nothing_is_shown_whatever_it_requires() -> None:
    shop = Shop(hot=HotProfile(suppressed=("web",)))
    record = shop.decide()
    assert (record.reason, record.suppressed) == ("NO_ELIGIBLE_ACTION", ("web",))
    assert {drop.reason for drop in record.dropped} == {"SUPPRESSED"}


def test_an_anonymous_visitor_has_no_customer_s_consent() -> None:
    shop = Shop()
    shop.decide(customer_id=None, anonymous_id="c-1")
    assert [owner.customer_id for owner, _ in shop.hot_state.contacts] == ["anonymous:c-1"] * len(
        shop.hot_state.contacts
    )


def test_showing_nothing_is_drawn_for_the_first_slot_only_and_ends_the_answer() -> None:
    answers = [shown(Shop().decide(decision_id=f"d-{number}")) for number in range(80)]
    assert [NO_ACTION] in answers
    assert all(len(answer) == 2 for answer in answers if answer != [NO_ACTION])
    assert not any(NO_ACTION in answer[1:] for answer in answers)


@pytest.mark.parametrize("now", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "1960-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_is_refused(now: str) -> None:
    shop = Shop()
    with pytest.raises(RequestError) as raised:
        shop.decide(now=now)
    assert raised.value.where == "now"
    [result] = shop.report({"decision_id": "d", "type": "accept", "occurred_at": now})
    assert result.problem.where == "occurred_at"


def test_a_rule_that_divides_by_a_caller_s_zero_costs_its_action_only() -> None:
    shop = Shop(catalog(action("card", eligibility="10 / context.n > 1"), action("loan")))
    record = shop.decide(context={"n": 0})
    assert shown(record) == ["loan"]
    assert [drop.reason for drop in record.dropped] == ["RULE_ERROR"]


@pytest.mark.parametrize("context", [{"age": 10**400}, {"x": 2**63}, {f"k{n}": 1 for n in range(101)}, {"": 1}])
def test_a_context_past_reason_is_refused(context: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        request(context=context)


def test_one_mistake_of_ours_does_not_cost_the_batch() -> None:
    shop = Shop()
    score = shop.scorer.score
    shop.scorer.score = lambda rows, **how: score(rows, **how) if rows[0][2] == 1 else 1 / 0  # type: ignore[assignment,return-value]
    asked = [request(context={"cart_value": 1}), request(context={"cart_value": 2})]
    results = asyncio.run(shop.engine.decide_many(asked, now=NOW))
    assert [type(result) for result in results] == [tuple, ZeroDivisionError]


def test_what_cannot_be_reserved_is_not_shown_where_a_cap_could_be_reached() -> None:
    free, capped = action("card", fallback=True), action("loan", group="loans", fallback=True)
    shop = Shop(catalog(free, capped, contact_policies=(weekly_cap(1, per="group", only="loans"),)))

    async def busy(_: Any) -> Any:
        raise StoreError("hot state is busy")

    shop.hot_state.reserve = busy  # type: ignore[method-assign]
    record = shop.decide()
    assert (record.reason, shown(record)) == ("FALLBACK_HOT_STATE_UNAVAILABLE", ["card"])
    assert not record.drawn


def first_stored(shop: Shop, **fields: Any) -> DecisionRecord:
    [record] = asyncio.run(shop.engine.decide_placements(request(**fields), now=NOW, stored_first=True))
    return record


def test_with_what_is_stored_first_a_request_supplies_only_what_is_missing() -> None:
    shop = Shop(catalog(action("card", eligibility="customer.age < 30.0"), action("loan")))
    shop.features.customers["c-1"] = {"age": 41.0, "city": None}
    record = first_stored(shop, context={"age": 20.0, "city": "ulm", "cart_value": 3.0})
    assert record.features == {"age": 41.0, "city": "ulm"}
    assert record.overridden == ("city",)
    assert "card" not in shown(record)
    assert shop.scorer.rows is not None
    assert shop.scorer.rows[0][:3].tolist() == [41.0, 0.0, 3.0]


def test_with_what_is_stored_first_an_unknown_customer_is_who_the_request_says() -> None:
    record = first_stored(Shop(), customer_id="stranger", context={"age": 20.0})
    assert (record.features["age"], record.overridden) == (20.0, ("age",))


def test_with_what_is_stored_first_nothing_is_supplied_while_nobody_can_tell_what_is_stored() -> None:
    shop = Shop(catalog(action("card", eligibility="customer.age < 30.0"), action("loan")))
    shop.features.down = True
    record = first_stored(shop, context={"age": 20.0, "account_id": "acme"})
    assert (record.overridden, record.account_id) == ((), None)
    assert "card" not in shown(record)
    assert "card" in shown(shop.decide(context={"age": 20.0}))


@pytest.mark.parametrize(("stored", "read"), [("acme", "acme"), (None, "globex")])
def test_with_what_is_stored_first_a_request_names_an_account_only_for_who_has_none(
    stored: str | None, read: str
) -> None:
    shop = Shop()
    shop.features.customers["c-1"] = {"age": 41.0, "city": "ulm", "account_id": stored}
    assert shop.decide(context={"account_id": "globex"}).account_id == "globex"
    assert first_stored(shop, context={"account_id": "globex"}).account_id == read
