"""Which events begin a moment, when it is due, and what ends it."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.event_content import Moment
from decisioning.events import EventRecord
from decisioning.moments import SETTLING, awaited, context_of, ended_by, is_late, why_nothing
from decisioning.profile import Event
from decisioning.reasons import Drop
from tests.builders import NOW, candidate, content, moment, record, release, slot
from tests.storage.kept import event

HOUR, INSTANT = timedelta(hours=1), timedelta(microseconds=1)


def cart(event_id: str = "shop/1", **overrides: Any) -> EventRecord:
    return event(event_id, **({"name": "cart_added"} | overrides))


def begun(*events: EventRecord, declared: Moment | None = None) -> list[str]:
    return [each.moment for each in awaited(events, release(moments=(declared or moment(),)))]


def test_an_event_begins_the_moment_that_names_it_and_is_due_after_the_delay() -> None:
    [found] = awaited([cart(properties={"value": 20.0}, anonymous_id="v-1")], release(moments=(moment(),)))
    assert (found.moment, found.event_id, found.customer_id, found.anonymous_id) == (
        "cart_abandoned", "shop/1", "c-1", "v-1",
    )  # fmt: skip
    assert (found.due_at, found.ready_at, found.channel) == (NOW + HOUR, NOW + HOUR, "email")
    assert found.trigger.properties == {"value": 20.0}
    assert not found.is_due_at_once


def test_another_event_begins_nothing() -> None:
    assert begun(event(name="purchase")) == []


def test_what_is_not_tracked_is_named_by_its_type() -> None:
    assert begun(cart(type="identify", name="identify"), declared=moment(event="identify")) == ["cart_abandoned"]


def test_the_same_event_begins_the_same_moment_and_another_event_another_one() -> None:
    shop = release(moments=(moment(), moment("thanks")))
    ids = [{each.moment_id for each in awaited([told], shop)} for told in (cart(), cart(), cart("shop/2"))]
    assert ids[0] == ids[1]
    assert len(ids[0] | ids[2]) == 4


def test_of_two_events_with_one_id_the_first_counts() -> None:
    assert begun(cart(), cart(customer_id="c-2")) == ["cart_abandoned"]
    assert begun(event(), cart()) == []


@pytest.mark.parametrize(
    ("rule", "properties", "matches"),
    [
        ("context.value > 50.0", {"value": 60}, True),
        ("context.value > 50.0", {"value": 50.0}, False),
        ("context.value > 50.0", {"value": "60"}, False),
        ("context.value > 50.0", {}, False),
        ("!(context.value > 50.0)", {}, False),
        ("has(context.value) && context.value > 50.0", {}, False),
        ("size(context.products) > 1", {"products": [1, 2]}, True),
        ("context.tags.sale > 1", {"tags": []}, False),
    ],
)
def test_a_rule_sees_what_the_event_says_and_one_that_errs_does_not_match(
    rule: str, properties: dict[str, Any], matches: bool
) -> None:
    assert begun(cart(properties=properties), declared=moment(when=rule)) == ["cart_abandoned"] * matches


def test_what_comes_too_late_to_be_decided_begins_nothing() -> None:
    declared = moment(expires=HOUR)
    assert begun(cart(received_at=NOW + 2 * HOUR - INSTANT), declared=declared)
    assert not begun(cart(received_at=NOW + 2 * HOUR), declared=declared)


def test_what_is_due_when_it_is_told_waits_for_what_is_told_as_late() -> None:
    [late] = awaited([cart(received_at=NOW + 3 * HOUR)], release(moments=(moment(),)))
    assert (late.due_at, late.ready_at, late.is_due_at_once) == (NOW + HOUR, NOW + 3 * HOUR + SETTLING, False)
    [now] = awaited([cart()], release(moments=(moment(delay=timedelta(0)),)))
    assert (now.due_at, now.ready_at, now.is_due_at_once) == (NOW, NOW + SETTLING, True)


def test_an_event_is_matched_by_the_catalogue_of_its_market() -> None:
    shop = Release({BLUEPRINT: content(), "de": content(market="de", moments=(moment(),))}, version="sha256:test")
    found = [awaited([cart(market=market)], shop) for market in (None, "de", "fr")]
    assert [[each.market for each in of_market] for of_market in found] == [[], ["de"], []]
    everywhere = Release({BLUEPRINT: content(moments=(moment(),)), "de": content(market="de")}, version="sha256:test")
    assert [len(awaited([cart(market=market)], everywhere)) for market in (None, "de", "fr")] == [1, 0, 1]
    [unknown] = awaited([cart(market="fr")], everywhere)
    assert unknown.market is None


def test_no_event_is_looked_at_while_nobody_declares_a_moment() -> None:
    assert awaited((pytest.fail("looked at") for _ in range(1)), release()) == []


@pytest.mark.parametrize(
    ("name", "after", "ends"),
    [
        ("purchase", HOUR, True),
        ("purchase", timedelta(0), True),
        ("purchase", -HOUR, False),
        ("page", HOUR, False),
        ("cart_added", HOUR, True),
        ("cart_added", timedelta(0), False),
    ],
)
def test_an_event_of_unless_ends_it_when_it_happened_after(name: str, after: timedelta, ends: bool) -> None:
    declared = moment(unless=("purchase", "cart_added"))
    assert (ended_by(declared, [Event(name, NOW + after)], since=NOW) is not None) == ends


def test_exactly_expires_ago_is_too_late() -> None:
    assert not is_late(moment(expires=HOUR), NOW, now=NOW + HOUR - INSTANT)
    assert is_late(moment(expires=HOUR), NOW, now=NOW + HOUR)


def test_a_decisions_context_gets_single_values_that_stand_for_no_feature() -> None:
    said = {
        "value": 20.5, "count": 3, "gift": True, "note": None, "colour": "red", "age": 12, "products": [{}],
        "nested": {"a": 1}, "huge": 2**70, "": 1, "li\nne": 2,
    }  # fmt: skip
    kept = context_of(said, features={"age"})
    assert kept == {"value": 20.5, "count": 3, "gift": True, "note": None, "colour": "red"}
    assert len(context_of({str(n): n for n in range(300)}, features=())) == 100


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ({}, None),
        ({"slots": (slot(action_id=NO_ACTION),)}, "NO_ACTION"),
        (
            {
                "slots": (slot(action_id=NO_ACTION),),
                "candidates": (candidate(NO_ACTION),),
                "dropped": (Drop("card", "consent", "NO_CONSENT"), Drop("loan", "candidates", "NOT_LIVE")),
            },
            "NO_CONSENT",
        ),
        (
            {
                "slots": (),
                "candidates": (),
                "reason": "NO_ELIGIBLE_ACTION",
                "dropped": (Drop("card", "consent", "NO_CONSENT"), Drop("loan", "contact_policy", "CAP_REACHED")),
            },
            "NO_ELIGIBLE_ACTION",
        ),
    ],
)
def test_why_there_is_nothing_to_deliver(overrides: dict[str, Any], why: str | None) -> None:
    assert why_nothing(record(**overrides)) == why
