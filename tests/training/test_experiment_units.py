"""Who counts in an experiment, since when, and with what they did."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.content import Audience
from decisioning.errors import DataError, RequestError
from decisioning.experiment_content import Experiment, Holdout, Metric, Variant
from storage.instants import to_microseconds
from tests.builders import NOW, placement, request
from tests.training.experiment_ledger import BUYS, DAY, FakeLedger, catalog_with, running
from training.experiments.measurements import ExperimentLog, metrics_of, read_experiment

LATER = NOW + 10 * DAY


def read(ledger: FakeLedger, *metrics: Metric, tested: Experiment | None = None, **overrides: Any) -> ExperimentLog:
    tested = tested or running()
    audiences = overrides.pop("asked", ())
    shop = catalog_with(tested, *metrics, **overrides)
    return read_experiment(ledger, shop, tested, metrics or (BUYS,), now=LATER, audiences=audiences)


def first_columns(ledger: FakeLedger, metric: Metric, **overrides: Any) -> list[float]:
    """What the only unit did."""
    _, [row] = read(ledger, metric, **overrides).rows(metric)
    return row.tolist()


def test_a_unit_counts_from_its_first_impression_on_and_one_without_an_impression_does_not_count() -> None:
    ledger = FakeLedger()
    ledger.assigned("unseen")
    ledger.met("seen", "b", at=NOW + DAY)
    ledger.met("seen", "b", at=NOW + 2 * DAY)
    found = read(ledger).exposures
    assert (found.variant.tolist(), found.first.tolist()) == ([1], [to_microseconds(NOW + DAY)])


def test_a_click_is_no_exposure_since_it_may_hang_on_the_variant() -> None:
    ledger = FakeLedger()
    ledger.tell(ledger.assigned("c-1"), "click", at=NOW)
    assert len(read(ledger).exposures) == 0


def test_what_is_sent_counts_when_it_is_sent() -> None:
    ledger = FakeLedger()
    made = ledger.assigned("c-1", placement="newsletter")
    ledger.tell(made, "impression", at=NOW)
    ledger.tell(made, "sent", at=NOW + DAY)
    assert read(ledger).exposures.first.tolist() == [to_microseconds(NOW + DAY)]


def test_a_decision_that_counts_as_shown_is_an_exposure() -> None:
    ledger = FakeLedger()
    ledger.assigned("c-1")
    assert len(read(ledger, placements=(placement(shown_by="decision"),)).exposures) == 1


def test_where_a_variant_changes_what_is_decided_the_decision_is_the_exposure() -> None:
    """A variant that shows less would else lose units, and the rest would be unlike the other's."""
    ledger = FakeLedger()
    ledger.assigned("c-1", "b", slots=(), reason="NO_ELIGIBLE_ACTION")
    tested = running(variants=(Variant(id="a"), Variant(id="b", levers={"card": 0.0})))
    assert read(ledger, tested=tested).exposures.variant.tolist() == [1]


def test_a_caller_reports_exposures_itself() -> None:
    ledger = FakeLedger()
    said = {"experiment_id": "hero_copy", "variation_id": "b"}
    ledger.event("c-1", "experiment_viewed", at=NOW, **said)
    ledger.event("c-2", "experiment_viewed", at=NOW - DAY, **said)  # before it began
    ledger.event("c-3", "experiment_viewed", at=NOW, **(said | {"experiment_id": "other"}))
    ledger.event("c-4", "experiment_viewed", at=NOW, **(said | {"variation_id": "z"}))
    assert read(ledger).exposures.variant.tolist() == [1]
    assert len(read(ledger, holdout=Holdout(share=1.0)).exposures) == 0


@pytest.mark.parametrize(
    "overrides",
    [
        {"reason": "HOLDOUT"},
        {"reason": "FALLBACK_NO_MODEL"},
        {"assigned_by": "FORCED"},
        {"version": 2},
        {"erased": True},
    ],
    ids=str,
)
def test_holdout_fallbacks_testers_other_versions_and_erased_people_are_left_out(overrides: dict[str, Any]) -> None:
    ledger = FakeLedger()
    ledger.met("c-1", **overrides)
    assert len(read(ledger).exposures) == 0


def test_by_a_markets_catalogue_only_its_decisions_count() -> None:
    ledger = FakeLedger()
    ledger.met("c-1", market="de")
    ledger.met("c-2", "b", market="ch")
    assert read(ledger).exposures.variant.tolist() == [0, 1]
    assert read(ledger, market="ch").exposures.variant.tolist() == [1]


def test_who_became_a_tester_is_left_out_with_what_was_met_before() -> None:
    ledger = FakeLedger()
    ledger.met("ann")
    assert len(read(ledger, tested=running(testers={"ann": "b"})).exposures) == 0


def test_two_ids_of_one_person_are_one_unit_and_are_left_out_if_they_met_two_variants() -> None:
    ledger = FakeLedger()
    ledger.met("anonymous:v-1", "a")
    ledger.met("ann", "a")
    ledger.met("anonymous:v-2", "a")
    ledger.met("bob", "b")
    ledger.event("ann", "identify", type="identify", at=NOW, anonymous_id="v-1")
    ledger.event("bob", "identify", type="identify", at=NOW, anonymous_id="v-2")
    found = read(ledger).exposures
    assert (len(found), found.crossed) == (1, 1)


def test_a_metric_counts_from_the_first_exposure_and_the_covariate_as_long_before() -> None:
    ledger = FakeLedger()
    made = ledger.met("c-1", at=NOW)
    for hours in (-73, -71, -1, 0, 71, 72):
        ledger.tell(made, "click", at=NOW + timedelta(hours=hours), value=9.0)
    count = Metric(id="clicks", of="click", measure="count", within=3 * DAY)
    assert first_columns(ledger, count) == [2.0, 1.0, 2.0, 1.0]
    assert first_columns(ledger, Metric(id="rate", of="click", within=3 * DAY)) == [1.0, 1.0, 1.0, 1.0]
    capped = Metric(id="money", of="click", measure="sum", within=3 * DAY, cap=10.0)
    assert first_columns(ledger, capped) == [10.0, 1.0, 10.0, 1.0]
    per = Metric(id="ratio", of="click", per="impression", measure="ratio", within=3 * DAY)
    assert first_columns(ledger, per) == [2.0, 1.0, 2.0, 0.0]


def test_a_unit_is_counted_once_its_time_is_over_and_does_not_change_any_more() -> None:
    ledger = FakeLedger()
    ledger.met("c-1", at=NOW)
    ledger.met("c-2", at=LATER - DAY)
    within = Metric(id="buys", of="purchase", within=3 * DAY)
    log = read(ledger, within)
    assert log.rows(within)[0].tolist() == [0]
    assert log.rows(within, at=to_microseconds(NOW + 3 * DAY) - 1)[0].tolist() == []
    assert log.rows(BUYS)[0].tolist() == [0, 1]
    assert log.rows(BUYS, at=to_microseconds(NOW + DAY))[0].tolist() == [0]


def test_what_another_decision_or_a_source_tells_counts_for_the_person() -> None:
    ledger = FakeLedger()
    ledger.met("anonymous:v-1")
    other = ledger.assigned("ann", placement="newsletter", assignments=())
    ledger.event("ann", "identify", type="identify", at=NOW, anonymous_id="v-1")
    ledger.tell(other, "purchase", at=NOW + DAY, value=5.0)
    ledger.event("ann", "purchase", at=NOW + 2 * DAY, order_id="A7", value=20.0)
    ledger.event("bob", "purchase", at=NOW + 2 * DAY, value=99.0)
    money = Metric(id="money", of="purchase", measure="sum")
    assert first_columns(ledger, money)[0] == 25.0


def test_an_order_that_is_told_twice_counts_once() -> None:
    ledger = FakeLedger()
    made = ledger.met("c-1")
    ledger.tell(made, "purchase", at=NOW + DAY, value=20.0, named="A7")
    for _ in range(2):
        ledger.event("c-1", "purchase", at=NOW + DAY, order_id="A7", value=20.0)
        ledger.event("c-1", "purchase", at=NOW + DAY, order_id="A8", products=[{"product_id": "mug", "price": 3.0}])
    assert first_columns(ledger, Metric(id="money", of="purchase", measure="sum"))[0] == 23.0


def test_events_other_than_orders_count_each_whatever_order_they_name() -> None:
    ledger = FakeLedger()
    ledger.met("c-1")
    for _ in range(2):
        ledger.event("c-1", "parcel_tracked", at=NOW + DAY, order_id="A7")
    assert first_columns(ledger, Metric(id="looks", of="parcel_tracked", measure="count"))[0] == 2.0


def test_an_account_is_a_unit_and_what_its_people_do_is_its_own() -> None:
    ledger = FakeLedger()
    ledger.met("ann", account_id="acme")
    ledger.met("bob", account_id="acme")
    ledger.event("bob", "order_completed", at=NOW + DAY)
    ledger.event("eve", "order_completed", at=NOW + DAY)
    metric = Metric(id="orders", of="order_completed", measure="count")
    assert first_columns(ledger, metric, tested=running(unit="account"))[0] == 1.0


def test_a_session_is_a_unit_of_outcomes_but_events_name_none() -> None:
    ledger = FakeLedger()
    tested = running(unit="session")
    made = ledger.met("ann", request=request(context={"session_id": "s-1"}))
    ledger.tell(made, "purchase", at=NOW + DAY)
    assert first_columns(ledger, BUYS, tested=tested)[0] == 1.0
    with pytest.raises(DataError, match="order_completed"):
        read(ledger, Metric(id="orders", of="order_completed"), tested=tested)


def test_an_audience_is_who_belonged_to_it_when_first_assigned() -> None:
    ledger = FakeLedger()
    for number, age in enumerate((20.0, 40.0)):
        ledger.met(f"c-{number}", features={"age": age})
        ledger.met(f"c-{number}", features={"age": 99.0}, at=NOW + DAY)
    old = Audience(id="old", rule="customer.age > 30.0")
    assert read(ledger, audiences=(old,), asked=("old",)).exposures.members["old"].tolist() == [False, True]


def test_of_nobody_there_is_nothing() -> None:
    known, rows = read(FakeLedger()).rows(BUYS)
    assert (len(known), rows.shape) == (0, (0, 4))


def test_unsubscribes_need_not_be_declared_and_an_experiment_without_a_metric_says_so() -> None:
    shop = catalog_with(running(metric=None))
    tested = running()
    primary, [guard] = metrics_of(shop.content, tested)
    assert (primary.id, guard.of, guard.better) == ("buys", "unsubscribe", "lower")
    with pytest.raises(RequestError, match="has no metric"):
        metrics_of(shop.content, running(metric=None))


def test_choosing_to_show_nothing_is_no_exposure_to_a_text() -> None:
    ledger = FakeLedger()
    ledger.assigned("c-1", slots=(), reason="NO_ELIGIBLE_ACTION")
    assert len(read(ledger).exposures) == 0
