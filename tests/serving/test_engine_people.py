"""One person is one person: caps count together, and there is one variant, whichever id is named."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from decisioning.content import ContactPolicy
from decisioning.errors import StoreError
from decisioning.events import EventRecord
from decisioning.record import DecisionRecord
from decisioning.trial import Trial
from serving.events import Reported
from tests.builders import NOW, action, catalog, experiment, placement, request
from tests.serving.test_engine import Shop, shown

TWICE = ContactPolicy("twice", limit=2, within=timedelta(days=7))
COPY = experiment(placements=())
PLACES = (placement(slots=1), placement("newsletter", channel="email", slots=1, shown_by="sent"))


@pytest.fixture
def shop() -> Shop:
    return Shop(
        catalog(action("card"), action("loan"), contact_policies=(TWICE,), experiments=(COPY,), placements=PLACES)
    )


def decide(shop: Shop, *, ago: int = 0, **fields: Any) -> DecisionRecord:
    """So many hours ago."""
    return asyncio.run(shop.engine.decide(request(**fields), now=NOW - timedelta(hours=ago)))


def visitor(shop: Shop, name: str = "v", **fields: Any) -> DecisionRecord:
    return decide(shop, customer_id=None, anonymous_id=name, **fields)


def tell(shop: Shop, message: str, **fields: Any) -> None:
    given = {"type": "identify", "name": "identify", "customer_id": "c-1", "occurred_at": NOW, "received_at": NOW}
    event = EventRecord(event_id=f"shop/{message}", source="shop", **(given | fields))
    asyncio.run(shop.engine.record_events([Reported(event, "a")]))


def test_what_a_visitor_saw_counts_on_every_channel_once_they_log_in(shop: Shop) -> None:
    assert [len(shown(visitor(shop, ago=ago))) for ago in (3, 2)] == [1, 1]
    assert len(shown(decide(shop, placement="newsletter", ago=1))) == 1, "as yet they are two"
    tell(shop, "login", anonymous_id="v")

    for record in (decide(shop), decide(shop, placement="newsletter"), visitor(shop)):
        assert (shown(record), record.customer_id) == ([], "c-1")
        assert len(record.contacts) == 3


def of_another_variant(name: str) -> str:
    """A visitor whose bucket has another variant than this customer's."""
    return next(one for one in "uvwxyz" if Trial(COPY).lot(f"anonymous:{one}") != Trial(COPY).lot(name))


def test_a_visitor_who_was_met_keeps_their_variant_as_the_customer_whom_they_turn_out_to_be(shop: Shop) -> None:
    device = of_another_variant("c-1")
    before = visitor(shop, device, ago=2).assignments
    tell(shop, "login", anonymous_id=device)
    assert visitor(shop, device, ago=1).assignments == decide(shop).assignments == before
    assert {one.unit for one in before} == {f"anonymous:{device}"}

    tell(shop, "another device", anonymous_id="tablet")
    tell(shop, "login again", anonymous_id=device)
    assert visitor(shop, "tablet").assignments == decide(shop).assignments == before


def test_a_customers_variant_is_theirs_on_every_device_they_log_in_on(shop: Shop) -> None:
    before = decide(shop, ago=2).assignments
    visitors = [name for name in "uvwxyz" if Trial(COPY).lot(f"anonymous:{name}") != Trial(COPY).lot("c-1")]
    assert len(visitors) > 1, "else nothing is shown"
    for name in visitors:
        visitor(shop, name, ago=1)
        tell(shop, name, anonymous_id=name)
        assert visitor(shop, name).assignments == decide(shop).assignments == before


def test_the_record_keeps_who_was_named_and_is_the_persons(shop: Shop) -> None:
    other = of_another_variant("c-1")
    tell(shop, "login", anonymous_id=other)
    record = visitor(shop, other)
    assert (record.customer_id, record.request.customer_id, record.request.anonymous_id) == ("c-1", None, other)
    assert [each.unit for each in record.assignments] == ["c-1"], "as nobody was met before"
    again = asyncio.run(shop.engine.replay(record.decision_id))
    assert (again.identical, again.changed_meanwhile) == (True, False)


def test_a_visitor_who_is_known_is_still_decided_for_without_features(shop: Shop) -> None:
    tell(shop, "login", anonymous_id="v")
    record = visitor(shop)
    assert (record.reason, set(record.features.values())) == ("FALLBACK_UNKNOWN_CUSTOMER", {None})
    assert decide(shop).features["city"] == "ulm"


def test_customers_who_share_a_device_have_a_count_each(shop: Shop) -> None:
    assert [len(shown(visitor(shop, ago=ago))) for ago in (3, 2)] == [1, 1]
    tell(shop, "first", anonymous_id="v")
    tell(shop, "second", anonymous_id="v", customer_id="c-2", occurred_at=NOW + timedelta(minutes=1))
    assert shown(decide(shop)) == []
    other = decide(shop, customer_id="c-2")
    assert (len(shown(other)), other.customer_id) == (1, "c-2")


def test_the_outcome_of_a_persons_decision_is_the_persons(shop: Shop) -> None:
    tell(shop, "login", anonymous_id="v")
    record = visitor(shop)
    shop.report({"decision_id": record.decision_id, "type": "impression"})
    assert [told.subject.customer_id for told in shop.hot_state.applied] == ["c-1"]


def test_an_outcome_of_what_a_visitor_was_shown_and_is_shown_again_is_of_that_contact(shop: Shop) -> None:
    first = visitor(shop)
    tell(shop, "login", anonymous_id="v")
    again = decide(shop)
    [slot] = again.slots
    assert (slot.repeats, slot.repeats_of) == (first.decision_id, "anonymous:v")
    assert asyncio.run(shop.engine.replay(again.decision_id)).identical

    shop.report({"decision_id": again.decision_id, "type": "reject"})
    [told] = shop.hot_state.applied
    assert (told.subject.customer_id, told.contacts) == ("c-1", ())
    assert told.others == (("anonymous:v", first.decision_id, slot.action_id),)


def test_every_placement_of_a_request_is_the_persons(shop: Shop) -> None:
    tell(shop, "login", anonymous_id="v")
    asked = request(customer_id=None, anonymous_id="v", placement=None, placements=["home_hero", "newsletter"])
    records = asyncio.run(shop.engine.decide_placements(asked, now=NOW))
    assert [record.customer_id for record in records] == ["c-1", "c-1"]


def test_a_link_that_hot_state_could_not_take_is_taken_when_it_is_told_again(shop: Shop) -> None:
    shop.hot_state.down = True
    with pytest.raises(StoreError):
        tell(shop, "login", anonymous_id="v")
    shop.hot_state.down = False
    assert visitor(shop).customer_id == "anonymous:v"
    tell(shop, "login", anonymous_id="v")
    assert visitor(shop).customer_id == "c-1"
