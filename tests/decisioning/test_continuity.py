from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from decisioning import decision as funnel
from decisioning.case import RANKED
from decisioning.content import Action
from decisioning.content_types import NO_ACTION
from decisioning.continuity import NOTHING_OPEN, Continuity, going_on
from decisioning.profile import Contact, Facts, HotProfile
from decisioning.reservation import take
from decisioning.scores import Scores
from tests.builders import NOW, action, case, catalog, contact, weekly_cap

HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
LASTING = timedelta(days=3)
HERO = "home_hero"


def shown(action_id: str = "card", *, ago: timedelta = HOUR, answer: timedelta = DAY, **overrides: Any) -> Contact:
    """An answer in the hero placement that may be shown for `answer`."""
    defaults = {"placement": HERO, "decision_id": "d-0", "until": NOW - ago + answer}
    return contact(action_id, ago=ago, **(defaults | overrides))


def open_now(*contacts: Contact, here: str = HERO, actions: tuple[Action, ...] = ()) -> Continuity:
    return going_on(contacts, {one.id: one for one in actions}, here, now=NOW, lasting=LASTING)


def test_nobody_has_anything_open_at_first() -> None:
    assert open_now() is NOTHING_OPEN


def test_a_reload_within_the_time_out_is_the_same_contact() -> None:
    assert open_now(shown()) == Continuity(("card",), {"card": "d-0"}, {})


@pytest.mark.parametrize(("left", "repeats"), [(INSTANT, {"card": "d-0"}), (timedelta(0), {})])
def test_at_the_end_of_the_time_out_it_goes_on_as_a_new_contact(left: timedelta, repeats: dict) -> None:
    assert open_now(shown(answer=HOUR + left)) == Continuity(("card",), repeats, {})


@pytest.mark.parametrize(("ago", "order"), [(LASTING - INSTANT, ("card",)), (LASTING, ())])
def test_exactly_as_long_ago_as_it_lasts_it_is_over(ago: timedelta, order: tuple[str, ...]) -> None:
    assert open_now(shown(ago=ago, answer=HOUR)).order == order


def test_what_is_open_on_another_channel_goes_on_here_as_a_new_contact() -> None:
    assert open_now(shown(channel="email", placement="newsletter")) == Continuity(("card",), {}, {})


def test_what_is_planned_for_later_is_not_open_yet() -> None:
    planned = shown(ago=-DAY, channel="email", placement="newsletter")
    assert open_now(planned) is NOTHING_OPEN


def test_what_is_sent_is_another_message_each_time() -> None:
    seen = shown(channel="email", placement="newsletter")
    again = going_on([seen], {}, "newsletter", now=NOW, lasting=LASTING, repeatable=False)
    assert again == Continuity(("card",), {}, {})


def test_a_reload_of_nothing_gives_nothing_again_here_and_decides_nothing_elsewhere() -> None:
    assert open_now(shown(NO_ACTION)) == Continuity((NO_ACTION,), {NO_ACTION: "d-0"}, {})
    assert open_now(shown(NO_ACTION), here="inbox").order == ()
    assert open_now(shown(NO_ACTION, answer=HOUR)).order == ()


@pytest.mark.parametrize("answer", ["accepted_at", "rejected_at"])
def test_an_answer_ends_it(answer: str) -> None:
    assert open_now(shown(**{answer: NOW})) == Continuity()


def test_a_click_does_not_end_it() -> None:
    assert open_now(shown(clicked_at=NOW)).order == ("card",)


def test_an_answer_to_one_contact_ends_earlier_contacts_with_the_action_too() -> None:
    earlier, rejected = shown(ago=2 * HOUR, decision_id="d-1"), shown(rejected_at=NOW)
    assert open_now(earlier, rejected).order == ()


def test_what_is_shown_again_after_its_rejection_is_open_again() -> None:
    rejected = shown(ago=DAY, rejected_at=NOW - 2 * HOUR)
    assert open_now(rejected, shown(ago=HOUR, decision_id="d-2")).order == ("card",)


def test_the_newest_comes_first_and_one_answer_keeps_the_order_of_its_slots() -> None:
    first, second = shown("card"), shown("loan")
    older = shown("fund", ago=2 * HOUR)
    assert open_now(older, first, second).order == ("card", "loan", "fund")


def test_the_first_decision_that_made_the_contact_is_named() -> None:
    """The contact that was made last is the one that still stands."""
    assert open_now(shown(ago=2 * HOUR, decision_id="d-1"), shown(decision_id="d-2")).repeats == {"card": "d-2"}


def test_an_accepted_action_makes_way_for_its_follow_up() -> None:
    card, activation = action("card", follow_up="activate"), action("activate")
    accepted = shown("card", accepted_at=NOW - INSTANT)
    going = open_now(accepted, shown("loan"), actions=(card, activation))
    assert going.order == ("activate", "loan")
    assert going.followed_up == {"card": "activate"}


@pytest.mark.parametrize(
    ("accepted", "answered"),
    [(NOW - LASTING, None), (NOW - HOUR, NOW - HOUR), (NOW - HOUR, NOW)],
    ids=["too long ago", "answered at that instant", "answered since"],
)
def test_a_follow_up_ends_with_its_time_or_answer_and_what_it_follows_stays_away(accepted: Any, answered: Any) -> None:
    card, activation = action("card", follow_up="activate"), action("activate")
    seen = [shown("card", ago=2 * LASTING, accepted_at=accepted)]
    if answered is not None:
        seen.append(shown("activate", ago=2 * HOUR, accepted_at=answered))
    going = open_now(*seen, actions=(card, activation))
    assert "activate" not in going.order
    assert going.followed_up == ({} if answered is None else {"card": "activate"})


def test_a_follow_up_that_was_answered_before_the_acceptance_is_due_again() -> None:
    card, activation = action("card", follow_up="activate"), action("activate")
    before = shown("activate", ago=2 * DAY, rejected_at=NOW - DAY)
    going = open_now(before, shown("card", accepted_at=NOW), actions=(card, activation))
    assert going.order == ("activate",)


def test_an_action_that_the_catalogue_no_longer_has_does_no_harm() -> None:
    shop = catalog(action("card"), continuity=LASTING)
    narrowed = funnel.narrow(case(shop), Facts(hot=HotProfile(contacts=(shown("gone", accepted_at=NOW), shown("old")))))
    assert narrowed.continuity.order == ("old",)
    assert [eligible.proposal.action.id for eligible in narrowed.eligible] == ["card"]


def reloaded(*, cap: int = 1, again: timedelta = HOUR) -> tuple[list[str], int]:
    """What a second request in the same placement shows, and how many contacts it makes."""
    shop = catalog(action("card"), action("loan", group="loans"), continuity=LASTING,
                   contact_policies=(weekly_cap(cap),))  # fmt: skip
    facts = Facts(hot=HotProfile(contacts=(shown("loan", ago=again, answer=DAY),), version=1))
    asked = case(shop, limit=1)
    narrowed = funnel.narrow(asked, facts)
    planned = funnel.plan(asked, narrowed, Scores(np.full(len(narrowed.eligible), 0.1)), key=b"key")
    reservation = funnel.reservation(asked, facts, planned, digest="")
    filled = take(reservation, reservation.seen)
    answered = funnel.finish(asked, planned, filled)
    return [slot.action_id for slot in answered], len(reservation.new_contacts(filled))


def test_a_reload_repeats_its_answer_though_the_cap_is_reached_and_counts_nothing() -> None:
    assert reloaded() == (["loan"], 0)


def test_after_the_time_out_the_cap_ends_what_went_on() -> None:
    assert reloaded(again=DAY) == ([], 0)


def test_after_the_time_out_it_goes_on_as_a_contact_where_the_cap_has_room() -> None:
    assert reloaded(again=DAY, cap=2) == (["loan"], 1)


def test_what_goes_on_has_probability_1_and_does_not_count_as_drawn() -> None:
    shop = catalog(action("card"), action("loan", group="loans"), continuity=LASTING)
    facts = Facts(hot=HotProfile(contacts=(shown("loan", ago=2 * DAY, answer=DAY),)))
    asked = case(shop, limit=1)
    narrowed = funnel.narrow(asked, facts)
    planned = funnel.plan(asked, narrowed, Scores(np.full(2, 0.1)), key=b"key")
    filled = take(funnel.reservation(asked, facts, planned, digest=""), facts.hot or HotProfile())
    record = funnel.record_of(asked, facts, funnel.Choice(narrowed, planned, RANKED), filled, model=None, key_id="k")
    assert [(slot.action_id, slot.probability) for slot in record.slots] == [("loan", 1.0)]
    assert not record.drawn


def test_a_reload_gives_what_stood_here_though_another_placement_showed_something_since() -> None:
    here, since = shown("card", ago=HOUR), shown("loan", ago=HOUR / 2, placement="product_page", decision_id="d-1")
    assert open_now(here, since).order == ("card", "loan")
    assert open_now(here, since, here="inbox").order == ("loan", "card")
