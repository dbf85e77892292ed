"""Orders that name no decision are counted as training credits them, whatever arrives when."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from decisioning.events import EventRecord
from decisioning.record import DecisionRecord
from storage.hot_state.posteriors import open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.settings import Settings
from tests.builders import placement
from tests.storage.histories import HOME, MANIFEST, SCORING, Row, append, counts_in, decided, go_on, said, shown
from tests.storage.kept import NOW, event

MINUTE = timedelta(minutes=1)
BEGIN = NOW - timedelta(hours=10)
AT_ONCE = msgspec.structs.replace(SCORING, placements={"home_hero": msgspec.structs.replace(HOME, shown_by="decision")})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    open_hot_state(settings, now=NOW).close()
    return settings


def contact(number: int, action_id: str, *, at: datetime, customer_id: str = "c-1") -> DecisionRecord:
    candidate = msgspec.structs.replace(decided(number).candidates[0], action_id=action_id)
    record = decided(number, decided_at=at, customer_id=customer_id, candidates=(candidate,))
    return msgspec.structs.replace(record, slots=(shown(action_id),))


def order(product: str = "mug", *, at: datetime = BEGIN + 60 * MINUTE, customer_id: str = "c-1") -> EventRecord:
    properties = {"order_id": "A-1", "products": [{"product_id": product, "price": 10.0}]}
    return event(
        f"till/{customer_id}",
        source="till",
        properties=properties,
        occurred_at=at,
        received_at=at,
        customer_id=customer_id,
    )


def link(kind: str, *, at: datetime = BEGIN, customer_id: str = "c-1", **other: Any) -> EventRecord:
    said_by = f"shop/{kind}-{customer_id}"
    return event(said_by, type=kind, name=kind, customer_id=customer_id, occurred_at=at, received_at=at, **other)


def succeeded(settings: Settings, *new: Row) -> set[str]:
    """Actions with a success, once what is new is counted, too."""
    append(settings, list(new))
    assert go_on(settings, AT_ONCE) is not None
    return {cell.action_id for cell, tally in counts_in(open_posterior(settings)).items() if tally.successes}


def test_an_order_counts_once_for_the_last_contact_that_promotes_its_product(settings: Settings) -> None:
    earlier, later = contact(1, "card", at=BEGIN), contact(2, "tea_set", at=BEGIN + 30 * MINUTE)
    assert succeeded(settings, earlier, order()) == {"card"}
    assert succeeded(settings, later) == {"tea_set"}  # arrives late, but was before the order


def test_an_order_of_what_no_contact_promotes_counts_nowhere(settings: Settings) -> None:
    assert succeeded(settings, contact(1, "card", at=BEGIN), order("tea")) == set()


def test_a_contact_that_turns_out_never_seen_gives_the_order_back(settings: Settings) -> None:
    earlier, later = contact(1, "card", at=BEGIN), contact(2, "tea_set", at=BEGIN + 30 * MINUTE)
    assert succeeded(settings, earlier, later, order()) == {"tea_set"}
    assert succeeded(settings, said(later, "bounce", action_id="tea_set")) == {"card"}


def test_a_purchase_that_is_told_of_a_decision_stands_for_the_order(settings: Settings) -> None:
    earlier, later = contact(1, "card", at=BEGIN), contact(2, "tea_set", at=BEGIN + 30 * MINUTE)
    assert succeeded(settings, earlier, later, order()) == {"tea_set"}
    assert succeeded(settings, said(earlier, "purchase", value=10.0)) == {"card"}


@pytest.mark.parametrize(
    ("seen_by", "linked"),
    [
        ("anonymous:v-1", link("identify", anonymous_id="v-1")),
        ("anonymous:v-1", link("alias", previous_id="v-1")),
        ("c-0", link("alias", previous_id="c-0")),
        ("c-2", link("alias", customer_id="c-2", previous_id="c-1")),
    ],
)
def test_a_link_that_arrives_after_the_order_gives_it_to_what_the_other_id_saw(
    settings: Settings, seen_by: str, linked: EventRecord
) -> None:
    assert succeeded(settings, contact(1, "card", at=BEGIN, customer_id=seen_by), order()) == set()
    assert succeeded(settings, linked) == {"card"}


def test_an_earlier_link_that_arrives_late_takes_a_visitor_and_the_order_away(settings: Settings) -> None:
    seen = contact(1, "card", at=BEGIN, customer_id="anonymous:v-1")
    assert succeeded(settings, seen, link("identify", anonymous_id="v-1"), order()) == {"card"}
    owner = link("identify", customer_id="c-2", anonymous_id="v-1", at=BEGIN - MINUTE)
    assert succeeded(settings, owner) == set()


def test_a_purchase_told_of_a_decision_before_the_models_cut_off_stands_for_an_order_after_it(
    settings: Settings,
) -> None:
    cut_off = MANIFEST.trained_until
    new = contact(2, "card", at=cut_off + MINUTE)
    assert succeeded(settings, new, order(at=cut_off + 30 * MINUTE)) == {"card"}
    old = contact(1, "card", at=cut_off - MINUTE)
    assert succeeded(settings, old, said(old, "purchase")) == set()


def test_what_actions_promote_matters_only_where_an_order_is_a_success() -> None:
    changed = msgspec.structs.replace(SCORING, promotes={"card": ("jug",)})
    assert changed.rules != SCORING.rules
    clicked = {"home_hero": placement(reward={"click": 1.0})}
    without = [msgspec.structs.replace(each, placements=clicked) for each in (SCORING, changed)]
    assert without[0].rules == without[1].rules
