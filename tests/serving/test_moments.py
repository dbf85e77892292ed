"""Moments from the event to the channel: decided once, when they are due, if nothing has ended them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from decisioning.errors import OutcomeConflict, StoreError, UnknownMoment
from decisioning.event_content import AtMost, EventFeature, ToWebhook
from decisioning.moments import decision_id_of
from decisioning.profile import Subject
from serving.moments import HANDED_OUT, undeliverable
from serving.ports import Received
from storage.ledger.moments import Open
from storage.settings import Settings
from tests.builders import NOW, action, content, moment, placement, release, request
from tests.serving.moments import ACTIONS, FakeWebhooks, MomentShop
from tests.storage.hot_stores import settings_for
from tests.storage.kept import event

HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
DUE = [("decided", None)]
BOUGHT = [("ended", "UNLESS purchase")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", domain="shop")


@pytest.fixture
def shop(settings: Settings) -> Iterator[MomentShop]:
    with MomentShop(settings) as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def either(request: pytest.FixtureRequest, settings: Settings) -> Iterator[MomentShop]:
    with settings_for(request.param, settings) as chosen, MomentShop(chosen) as opened:
        yield opened


def test_a_cart_that_is_left_for_an_hour_is_decided_for(either: MomentShop) -> None:
    either.tell(properties={"value": 20.0, "products": [{"product_id": "sofa"}]})
    either.pass_to(HOUR - SECOND)
    assert either.states == [("waiting", None)]
    either.pass_to(HOUR)
    assert either.states == DUE
    [found] = either.fetch(channel="email")
    assert (found["moment"], found["customer_id"], found["due_at"]) == (
        "cart_abandoned", "c-1", "2026-03-02T13:00:00Z",
    )  # fmt: skip
    assert found["event"]["properties"]["products"] == [{"product_id": "sofa"}]
    assert found["decision"]["placement"] == "newsletter"
    assert found["decision"]["actions"]
    assert found["decision"]["unsubscribe"].startswith("/v1/unsubscribe/")
    assert found["decision"]["decision_id"] == decision_id_of(found["moment_id"])
    record = either.run(either.engine.find(found["decision"]["decision_id"]))
    assert record is not None
    assert record.request.context == {"value": 20.0}
    assert either.became == [("cart_abandoned", "decided")]


def test_a_purchase_in_between_ends_it(either: MomentShop) -> None:
    either.tell()
    either.tell("purchase", "shop/2", at=HOUR / 2)
    either.pass_to(HOUR)
    assert either.states == BOUGHT
    assert either.fetch() == []


def test_a_purchase_that_is_told_before_the_cart_ends_it_by_its_time(either: MomentShop) -> None:
    either.tell("purchase", "shop/2", at=HOUR / 2)
    either.tell()
    either.pass_to(HOUR)
    assert either.states == BOUGHT


def test_a_purchase_before_the_cart_does_not(shop: MomentShop) -> None:
    shop.tell("purchase", "shop/2", at=-HOUR)
    shop.tell()
    shop.pass_to(HOUR)
    assert shop.states == DUE


def test_a_purchase_by_another_id_of_the_person_ends_it(either: MomentShop) -> None:
    either.tell()
    either.tell("purchase", "till/1", at=HOUR / 2, customer_id="card-7")
    either.link("c-1", "card-7", at=HOUR / 2)
    either.pass_to(HOUR)
    assert either.states == BOUGHT


def test_an_event_that_is_told_twice_is_one_moment(shop: MomentShop) -> None:
    shop.tell()
    shop.tell()
    shop.told(event(name="cart_added"), event(name="cart_added"))
    shop.pass_to(HOUR)
    shop.pass_to(HOUR + SECOND)
    assert shop.states == DUE


def test_a_told_event_that_another_stands_for_begins_nothing(shop: MomentShop) -> None:
    shop.tell("page_seen")
    shop.tell("cart_added")
    shop.told(event("shop/2", name="page_seen"), event("shop/2", name="cart_added"))
    assert shop.states == []


def test_a_visitor_who_turns_out_to_be_a_customer_gets_the_customers_decision(either: MomentShop) -> None:
    either.tell(customer_id=None, anonymous_id="v-1")
    either.link("c-1", "anonymous:v-1", at=HOUR / 2)
    either.pass_to(HOUR)
    [found] = either.fetch()
    assert (found["customer_id"], found["anonymous_id"], found["decision"]["customer_id"]) == ("c-1", "v-1", "c-1")
    assert either.all[0].customer_id == "c-1"


def test_a_visitor_whom_nobody_knows_gets_what_needs_no_consent(settings: Settings) -> None:
    with MomentShop(settings, moment(placement="home_hero")) as shop:
        shop.tell(customer_id=None, anonymous_id="v-1")
        shop.pass_to(HOUR)
        [found] = shop.fetch(channel="web")
    assert (found["customer_id"], found["anonymous_id"], found["decision"]["anonymous_id"]) == (None, "v-1", "v-1")


def test_consent_that_is_withdrawn_in_between_counts(either: MomentShop) -> None:
    either.tell()
    either.consent(at=NOW + HOUR / 2, granted=False)
    either.pass_to(HOUR)
    [(state, reason)] = either.states
    assert (state, reason) == ("ended", "OBJECTED")


def test_without_consent_to_personalisation_what_the_event_says_is_not_used(shop: MomentShop) -> None:
    shop.consent(purpose="personalisation", granted=False)
    shop.tell(properties={"value": 20.0})
    shop.pass_to(HOUR)
    record = shop.run(shop.engine.find(shop.all[0].decision_id))
    assert record is not None
    assert (record.reason, record.request.context) == ("FALLBACK_NOT_PERSONALISED", {})


def test_consent_that_is_given_in_between_counts(shop: MomentShop) -> None:
    shop.tell(customer_id="c-2")
    shop.consent("c-2", at=NOW + HOUR / 2)
    shop.pass_to(HOUR)
    assert shop.states == DUE


def test_what_is_found_late_after_an_outage_is_ended(shop: MomentShop) -> None:
    shop.tell()
    shop.pass_to(HOUR + DAY)
    assert shop.states == [("ended", "LATE")]


def test_what_is_found_within_its_time_after_an_outage_is_decided(shop: MomentShop) -> None:
    shop.tell()
    shop.pass_to(HOUR + DAY - SECOND)
    assert shop.states == DUE


def test_without_a_delay_it_is_decided_when_the_event_is_told(settings: Settings) -> None:
    with MomentShop(settings, moment(delay=timedelta(0))) as shop:
        shop.tell()
        shop.turn()
        assert shop.states == DUE


def test_without_a_delay_it_is_found_after_a_minute_if_who_took_the_event_died(settings: Settings) -> None:
    with MomentShop(settings, moment(delay=timedelta(0))) as shop:
        shop.tell()
        shop.restart()
        shop.turn()
        assert shop.states == [("waiting", None)]
        shop.pass_to(timedelta(minutes=1))
        assert shop.states == DUE


def test_without_a_delay_what_is_told_in_the_same_call_counts(settings: Settings) -> None:
    with MomentShop(settings, moment(delay=timedelta(0))) as shop:
        shop.told(event(name="cart_added"), event("shop/2", name="purchase", occurred_at=NOW + SECOND))
        shop.turn()
        assert shop.states == BOUGHT


def test_at_most_so_often_for_a_person_whichever_of_the_ids_is_named(settings: Settings) -> None:
    capped = moment(at_most=AtMost(times=1, per=7 * DAY))
    with MomentShop(settings, capped) as shop:
        shop.link("c-1", "card-7")
        shop.link("c-1", "anonymous:v-1")
        shop.tell()
        shop.tell(event_id="shop/2", customer_id="card-7")
        shop.tell(event_id="shop/3", customer_id=None, anonymous_id="v-1")
        shop.tell(event_id="shop/4", customer_id="c-2")
        shop.consent("c-2")
        shop.pass_to(HOUR)
        assert sorted(shop.states, key=str) == [*DUE, *DUE, ("ended", "AT_MOST"), ("ended", "AT_MOST")]
        assert {each.customer_id for each in shop.all if each.state == "decided"} >= {"c-2"}


def test_what_came_to_nothing_does_not_count_and_the_time_runs_out(settings: Settings) -> None:
    with MomentShop(settings, moment(at_most=AtMost(times=1, per=7 * DAY))) as shop:
        shop.consent(at=NOW + SECOND, granted=False)
        shop.tell()
        shop.pass_to(HOUR)
        shop.consent(at=NOW + HOUR)
        for number, at in enumerate((HOUR, 2 * HOUR, HOUR + 7 * DAY), start=2):
            shop.now = NOW + at
            shop.tell(event_id=f"shop/{number}", at=at)
            shop.pass_to(at + HOUR)
            for found in shop.fetch():
                shop.ack(found["moment_id"])
        assert shop.states == [
            ("ended", "OBJECTED"), ("delivered", None), ("ended", "AT_MOST"), ("delivered", None)
        ]  # fmt: skip


def test_a_moment_that_is_taken_out_of_the_catalogue_is_not_decided(shop: MomentShop) -> None:
    shop.tell()
    shop.engine.release = release()
    shop.pass_to(HOUR)
    assert shop.states == [("ended", "NOT_IN_CATALOGUE")]


def test_until_there_is_a_model_nothing_is_decided(shop: MomentShop) -> None:
    scorer, shop.engine.scorer = shop.engine.scorer, None
    shop.tell()
    shop.pass_to(HOUR)
    assert shop.states == [("waiting", None)]
    shop.engine.scorer = scorer
    shop.turn()
    assert shop.states == DUE


def test_while_hot_state_is_away_it_waits(shop: MomentShop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreError("away")

    shop.tell()
    with monkeypatch.context() as broken:
        broken.setattr(shop.moments, "_hot_state", type("Away", (), {"read": away})())
        shop.pass_to(HOUR)
    assert shop.states == [("waiting", None)]
    shop.pass_to(HOUR + 4 * SECOND)
    assert shop.states == [("waiting", None)]
    shop.pass_to(HOUR + 5 * SECOND)
    assert shop.states == DUE


def test_a_mistake_of_ours_with_one_keeps_none_of_the_others(shop: MomentShop, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = shop.engine.decide_placements

    async def faulty(request: Any, **given: Any) -> Any:
        if request.customer_id == "c-bad":
            raise ZeroDivisionError
        return await decide(request, **given)

    monkeypatch.setattr(shop.engine, "decide_placements", faulty)
    shop.tell(customer_id="c-bad")
    shop.tell(event_id="shop/2")
    shop.pass_to(HOUR)
    assert sorted(shop.states, key=str) == [("decided", None), ("waiting", None)]
    shop.pass_to(HOUR + DAY + SECOND)
    assert ("ended", "LATE") in shop.states


def test_what_dies_between_decision_and_table_is_decided_once(
    shop: MomentShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any, **__: Any) -> Any:
        raise StoreError("killed")

    shop.tell(properties={"value": 20.0})
    with monkeypatch.context() as killed:
        killed.setattr(shop.moments, "keep", dies)
        with pytest.raises(StoreError):
            shop.pass_to(HOUR)
    first = shop.run(shop.engine.find(shop.all[0].decision_id))
    assert first is not None
    shop.pass_to(HOUR + 30 * SECOND)
    assert shop.states == [("waiting", None)], "somebody may still be at it"
    # Asked anew, it would be asked otherwise.
    shop.consent(purpose="personalisation", granted=False)
    shop.pass_to(HOUR + timedelta(minutes=1))
    [found] = shop.fetch()
    assert found["decision"]["decided_at"] == "2026-03-02T13:00:00Z"
    assert found["decision"]["actions"][0]["action_id"] == first.slots[0].action_id


def test_a_decision_that_somebody_else_asked_for_under_its_id_is_not_delivered(shop: MomentShop) -> None:
    shop.tell()
    [kept] = shop.all
    stranger = {"customer_id": "c-2", "placement": "newsletter", "decision_id": kept.decision_id}
    shop.run(shop.engine.decide(request(**stranger), now=NOW))
    shop.pass_to(HOUR)
    assert shop.states == [("ended", "DECISION_ID_REUSED")]


def test_what_an_event_says_overrides_no_stored_feature_and_breaks_no_model(settings: Settings) -> None:
    picky = action("card", eligibility="customer.age > 40.0 && context.value > 10.0")
    orders = EventFeature(id="orders", event="purchase", compute="count", windows=(DAY,))
    with MomentShop(settings, shop=release(picky, moments=(moment(),), event_features=(orders,))) as shop:
        shop.tell(properties={"age": 7, "account_id": "a-9", "cart_value": "a lot", "value": 20, "orders_1d": 9})
        shop.pass_to(HOUR)
        [found] = shop.fetch()
        record = shop.run(shop.engine.find(found["decision"]["decision_id"]))
    assert record is not None
    assert record.request.context == {"value": 20}
    assert (record.features["age"], record.overridden, record.account_id) == (41.0, (), None)


def test_what_is_fetched_is_handed_out_again_until_it_is_acknowledged(shop: MomentShop) -> None:
    shop.tell()
    shop.pass_to(HOUR)
    [first] = shop.fetch()
    assert shop.fetch() == []
    shop.now += HANDED_OUT - SECOND
    assert shop.fetch() == []
    shop.now += SECOND
    assert shop.fetch() == [first]
    assert shop.ack(first["moment_id"]).state == "delivered"
    shop.now += HANDED_OUT
    assert shop.fetch() == []
    assert shop.ack(first["moment_id"]).state == "delivered"
    assert shop.became == [("cart_abandoned", "decided"), ("cart_abandoned", "delivered")]


def test_those_due_for_the_longest_are_handed_out_first_and_no_more_than_asked_for(shop: MomentShop) -> None:
    for number in range(5):
        shop.consent(f"p-{number}")
        shop.tell(event_id=f"shop/{number}", customer_id=f"p-{number}", at=-number * SECOND)
    shop.pass_to(HOUR)
    assert [found["customer_id"] for found in shop.fetch(limit=2)] == ["p-4", "p-3"]
    assert [found["customer_id"] for found in shop.fetch()] == ["p-2", "p-1", "p-0"]
    assert shop.fetch(channel="web") == []


def test_an_acknowledgement_can_say_what_became_of_the_message(shop: MomentShop) -> None:
    def contacts() -> int:
        return len(shop.run(shop.hot.read(Subject("c-1"), now=shop.now)).contacts)

    shop.tell()
    shop.tell(event_id="shop/2")
    shop.pass_to(HOUR)
    first, second = shop.fetch()
    shop.ack(first["moment_id"], "sent")
    assert [each.type for each in shop.outcomes(first["decision"]["decision_id"])] == ["sent"]
    shop.ack(first["moment_id"], "sent")
    with pytest.raises(OutcomeConflict):
        shop.ack(first["moment_id"], "not_sent")
    before = contacts()
    shop.ack(second["moment_id"], "not_sent")
    [told] = shop.outcomes(second["decision"]["decision_id"])
    assert (told.type, told.source) == ("not_sent", "crm")
    assert contacts() <= before


def test_what_nobody_fetches_in_time_is_ended_and_its_place_given_back(shop: MomentShop) -> None:
    shop.tell()
    shop.pass_to(HOUR)
    assert len(shop.run(shop.hot.read(Subject("c-1"), now=shop.now)).contacts) == 1
    [found] = shop.fetch()
    assert found["expires_at"] == "2026-03-02T13:30:00Z", "as long as the answer is good"
    shop.now = NOW + HOUR + timedelta(minutes=30)
    assert shop.fetch() == []
    shop.turn()
    assert shop.states == [("ended", "EXPIRED")]
    [released] = shop.outcomes(found["decision"]["decision_id"])
    assert (released.type, released.source) == ("not_sent", "moments")
    assert shop.ack(found["moment_id"]).reason == "EXPIRED"


def test_it_expires_no_later_than_the_moment_says(settings: Settings) -> None:
    patient = (placement("newsletter", channel="email", slots=1, shown_by="sent", time_out=7 * DAY),)
    with MomentShop(settings, shop=release(*ACTIONS, moments=(moment(),), placements=patient)) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        assert shop.fetch()[0]["expires_at"] == "2026-03-03T13:00:00Z"


def test_nobody_acknowledges_what_is_not_decided_or_of_another_market(settings: Settings) -> None:
    markets = {BLUEPRINT: content(), "de": content(*ACTIONS, market="de", moments=(moment(),))}
    with MomentShop(settings, shop=Release(markets, version="sha256:test")) as shop:
        shop.tell(market="de")
        [kept] = shop.all
        with pytest.raises(UnknownMoment):
            shop.ack(kept.moment_id)
        shop.pass_to(HOUR)
        assert shop.fetch(market="ch") == []
        with pytest.raises(UnknownMoment):
            shop.ack(kept.moment_id, market="ch")
        with pytest.raises(UnknownMoment):
            shop.ack("nothing")
        assert len(shop.fetch(market="de")) == 1
        assert shop.ack(kept.moment_id, market="de").state == "delivered"


def by_webhook(settings: Settings, *answers: Received, **overrides: Any) -> MomentShop:
    patient = (placement("newsletter", channel="email", slots=1, shown_by="sent", time_out=7 * DAY),)
    sent = moment(**({"deliver": ToWebhook(webhook="crm"), "expires": 7 * DAY} | overrides))
    return MomentShop(
        settings, webhooks=FakeWebhooks(crm=answers), shop=release(*ACTIONS, moments=(sent,), placements=patient)
    )


FAILED = Received("failed", "answered 500")


def got(shop: MomentShop) -> list[str]:
    assert isinstance(shop.webhooks, FakeWebhooks)
    return [message_id for _, message_id, _ in shop.webhooks.got]


def test_a_webhook_gets_what_a_channel_would_fetch(settings: Settings) -> None:
    with by_webhook(settings) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        assert isinstance(shop.webhooks, FakeWebhooks)
        [(target, message_id, body)] = shop.webhooks.got
        assert (target, body["moment_id"], body["customer_id"]) == ("crm", message_id, "c-1")
        assert shop.states == [("delivered", None)]
        assert shop.fetch() == []


def test_what_fails_is_sent_again_later_under_the_same_id(settings: Settings) -> None:
    with by_webhook(settings, FAILED) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        [kept] = shop.all
        assert (kept.state, kept.attempts) == ("decided", 1)
        assert shop.now < kept.next_at <= shop.now + timedelta(seconds=30)
        shop.now = kept.next_at - timedelta(microseconds=1)
        shop.turn()
        assert len(got(shop)) == 1
        shop.now = kept.next_at
        shop.turn()
        assert got(shop) == [kept.moment_id] * 2
        assert shop.states == [("delivered", None)]


def test_after_the_last_attempt_it_is_a_dead_letter_and_its_place_is_given_back(settings: Settings) -> None:
    with by_webhook(settings, *[FAILED] * 30) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        while shop.all[0].state == "decided":
            shop.now = shop.all[0].next_at
            shop.turn()
        assert shop.states == [("dead", "answered 500 (attempt 22)")]
        assert len(got(shop)) == 22
        [released] = shop.outcomes(shop.all[0].decision_id)
        assert released.type == "not_sent"
        assert shop.became[-1] == ("cart_abandoned", "dead")


def test_a_receiver_that_wants_no_more_is_not_asked_again(settings: Settings) -> None:
    with by_webhook(settings, Received("gone", "answered 410")) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        assert shop.states == [("dead", "answered 410 (attempt 1)")]


def test_what_expires_before_it_could_be_sent_is_a_dead_letter(settings: Settings) -> None:
    with by_webhook(settings, *[FAILED] * 30, expires=HOUR) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        shop.pass_to(2 * HOUR)
        assert shop.states == [("dead", "EXPIRED")]


def test_a_dead_letter_that_is_tried_again_is_decided_anew(settings: Settings) -> None:
    with by_webhook(settings, Received("gone", "answered 410")) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        [dead] = shop.all
        assert shop.store.retry(dead.moment_id, now=shop.now + DAY)
        assert not shop.store.retry(dead.moment_id, now=shop.now + DAY)
        shop.pass_to(HOUR + DAY)
        [again] = shop.all
        assert (again.state, again.moment_id) == ("delivered", dead.moment_id)
        assert again.decision_id != dead.decision_id
        assert got(shop) == [dead.moment_id] * 2


def test_an_acknowledgement_ends_what_is_still_sent_to_a_webhook(settings: Settings) -> None:
    with by_webhook(settings, FAILED) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        shop.ack(shop.all[0].moment_id)
        shop.pass_to(2 * HOUR)
        assert len(got(shop)) == 1


def test_what_goes_to_a_webhook_that_is_not_known_here_waits_for_who_knows_it(settings: Settings) -> None:
    with by_webhook(settings, deliver=ToWebhook(webhook="elsewhere")) as shop:
        shop.tell()
        shop.pass_to(HOUR)
        assert (got(shop), shop.states) == ([], DUE)
        shop.pass_to(HOUR + 7 * DAY)
        assert shop.states == [("dead", "EXPIRED")]


def test_a_webhook_that_is_not_known_here_is_told_by_name() -> None:
    sent = moment(deliver=ToWebhook(webhook="crm"))
    assert undeliverable(release(moments=(sent, moment("fetched"))), {"crm": None}) == []
    assert undeliverable(release(moments=(sent, moment("fetched"))), ()) == [
        "moment cart_abandoned goes to the webhook 'crm', which the file of the setting webhooks does not have"
    ]


def test_many_that_are_due_at_once_are_all_decided_and_sent(settings: Settings) -> None:
    with by_webhook(settings) as shop:
        for number in range(70):
            shop.consent(f"p-{number}")
        shop.told(*(event(f"shop/{n}", name="cart_added", customer_id=f"p-{n}") for n in range(70)))
        shop.turn()
        assert shop.worker.open == [Open("waiting", 70, NOW + HOUR)]
        shop.pass_to(HOUR)
        assert len(set(got(shop))) == len(got(shop)) == 70
