from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.contact_policy import ContactCounts, cooling_down
from decisioning.content import ContactPolicy, CoolDown
from decisioning.content_types import NO_ACTION
from decisioning.profile import Contact
from tests.builders import NOW, contact, weekly_cap
from tests.decisioning import strategies as some

WEEK, INSTANT = timedelta(days=7), timedelta(microseconds=1)
CARD = {"any": "", "channel": "web", "group": "cards", "goal": "sell", "action": "card"}
LOAN = {"any": "", "channel": "web", "group": "loans", "goal": "sell", "action": "loan"}
MAIL = {**LOAN, "channel": "email"}


def counts(*contacts: Contact, policies: tuple[ContactPolicy, ...], account: tuple[Contact, ...] = ()) -> ContactCounts:
    return ContactCounts(policies, contacts, now=NOW, account_contacts=account)


def suppressed(*contacts: Contact, of: Any = CARD, account: tuple[Contact, ...] = (), **cap: Any) -> bool:
    return counts(*contacts, policies=(weekly_cap(**cap),), account=account).suppressing(of) is not None


@pytest.mark.parametrize(
    ("ago", "counts_still"),
    [(WEEK - INSTANT, True), (WEEK, False), (timedelta(0), True), (-timedelta(days=2), True)],
    ids=["just within", "exactly one window", "now", "planned"],
)
def test_a_contact_counts_until_it_is_exactly_one_window_old(ago: timedelta, counts_still: bool) -> None:
    assert suppressed(contact(ago=ago)) is counts_still


def test_a_limit_of_nothing_suppresses_all_and_only_what_it_is_about() -> None:
    assert suppressed(limit=0)
    assert suppressed(limit=0, per="group", only="cards")
    assert not suppressed(limit=0, per="group", only="cards", of=LOAN)


@pytest.mark.parametrize(
    ("cap", "of", "expected"),
    [
        ({"per": "any"}, MAIL, True),
        ({"per": "channel"}, LOAN, True),
        ({"per": "channel"}, MAIL, False),
        ({"per": "group"}, LOAN, False),
        ({"per": "goal"}, LOAN, True),
        ({"per": "action"}, CARD, True),
        ({"per": "action"}, LOAN, False),
        ({"per": "action", "only": "loan"}, CARD, False),
    ],
)
def test_what_is_counted_together(cap: dict, of: dict, expected: bool) -> None:
    assert suppressed(contact("card", goal="sell"), of=of, **cap) is expected


def test_showing_nothing_is_no_contact() -> None:
    assert not suppressed(contact(NO_ACTION))


def test_contacts_of_colleagues_count_where_the_policy_is_of_the_account() -> None:
    assert not suppressed(account=(contact(),), limit=1)
    shared = weekly_cap(limit=2)
    ours = ContactPolicy("ours", limit=2, within=WEEK, of="account")
    both = counts(contact(), policies=(shared, ours), account=(contact(),))
    named = both.suppressing(CARD)
    assert named is not None
    assert named.id == "ours"


def test_the_order_of_colleagues_contacts_does_not_matter() -> None:
    ours = ContactPolicy("ours", limit=1, within=timedelta(days=1), of="account")
    late, early = contact(ago=timedelta(hours=1)), contact(ago=timedelta(days=5))
    for account in ((late, early), (early, late)):
        assert counts(contact(ago=timedelta(days=3)), policies=(ours,), account=account).suppressing(CARD) is ours


def test_the_first_policy_that_forbids_is_named() -> None:
    loose, strict = weekly_cap(2), ContactPolicy("strict", limit=1, within=WEEK)
    assert counts(contact(), policies=(loose, strict)).suppressing(CARD) is strict


def test_policies_that_count_alike_each_have_their_limit() -> None:
    counted = counts(contact(), policies=(weekly_cap(2), ContactPolicy("three", limit=3, within=WEEK)))
    assert (counted.reached, counted.closed_by([])) == ({}, set())
    assert counted.closed_by([CARD]) == {("any", "")}
    assert counts(contact(), policies=(weekly_cap(3),)).closed_by([CARD]) == set()
    assert counts(contact(), policies=(weekly_cap(3),)).closed_by([CARD, CARD]) == {("any", "")}


def test_a_contact_of_this_answer_closes_its_own_group_and_no_other() -> None:
    counted = counts(policies=(weekly_cap(1, per="group"),))
    assert counted.closed_by([CARD]) == {("group", CARD["group"])}
    assert CARD["group"] != LOAN["group"]
    assert counts(policies=(weekly_cap(1, per="group", only=LOAN["group"]),)).closed_by([CARD]) == set()


def silent(*contacts: Contact, **cool_down: Any) -> list[tuple[str, str]]:
    defaults = {"id": "pause", "after": "reject", "lasting": WEEK}
    return list(cooling_down([CoolDown(**(defaults | cool_down))], contacts, now=NOW))


@pytest.mark.parametrize(("since", "is_silent"), [(WEEK - INSTANT, True), (WEEK, False), (timedelta(0), True)])
def test_a_rejection_silences_until_exactly_its_time_has_passed(since: timedelta, is_silent: bool) -> None:
    rejected = contact(ago=2 * WEEK, rejected_at=NOW - since)
    assert silent(rejected) == ([("action", "card")] if is_silent else [])


def test_the_latest_rejection_counts() -> None:
    first, second = contact(ago=3 * WEEK, rejected_at=NOW - 2 * WEEK), contact(rejected_at=NOW - timedelta(days=2))
    found = cooling_down([CoolDown(id="pause", after="reject", lasting=WEEK)], [first, second], now=NOW)
    assert [suppression.until for suppression in found.values()] == [NOW + timedelta(days=5)]


@pytest.mark.parametrize(
    ("cool_down", "expected"),
    [
        ({"per": "action"}, [("action", "card")]),
        ({"per": "group"}, [("group", "cards")]),
        ({"per": "channel"}, [("channel", "web")]),
        ({"per": "any"}, [("any", "")]),
        ({"per": "group", "only": "cards"}, [("group", "cards")]),
        ({"per": "group", "only": "loans"}, []),
    ],
)
def test_a_rejection_silences_what_it_is_counted_with(cool_down: dict, expected: list) -> None:
    assert silent(contact(rejected_at=NOW), **cool_down) == expected


IGNORED = {"after": "ignore", "times": 2, "per": "group"}


def test_so_many_contacts_in_a_row_without_an_answer_silence() -> None:
    assert silent(contact(), **IGNORED) == []
    assert silent(contact("card"), contact("gold"), **IGNORED) == [("group", "cards")]


@pytest.mark.parametrize("answer", ["clicked_at", "accepted_at"])
def test_an_answer_to_any_of_them_breaks_the_row(answer: str) -> None:
    assert silent(contact(), contact(**{answer: NOW}), **IGNORED) == []
    assert silent(contact(**{answer: NOW}), contact(), **IGNORED) == []
    assert silent(contact(**{answer: NOW}), contact(), contact(), **IGNORED) == [("group", "cards")]


def test_contacts_of_another_group_and_showing_nothing_do_not_break_the_row() -> None:
    between = contact("loan", group="loans", clicked_at=NOW), contact(NO_ACTION)
    assert silent(contact(), *between, contact(), **IGNORED) == [("group", "cards")]


def test_the_silence_after_being_ignored_begins_with_the_last_contact() -> None:
    assert silent(contact(ago=2 * WEEK), contact(ago=WEEK - INSTANT), **IGNORED) == [("group", "cards")]
    assert silent(contact(ago=2 * WEEK), contact(ago=WEEK), **IGNORED) == []


def by_hand(policies: Any, own: Any, account: Any, added: Any, asked: Any) -> ContactPolicy | None:
    """What the policies say, one by one, as their definition reads."""
    for policy in policies:
        met = [seen for seen in (*own, *(account if policy.of == "account" else ())) if seen.is_counted]
        counted = [counted_as(seen) for seen in met if NOW - seen.at < policy.within] + added
        key = asked[policy.per]
        if policy.only in (None, key) and sum(other[policy.per] == key for other in counted) >= policy.limit:
            return policy
    return None


def counted_as(seen: Contact) -> dict[str, str]:
    return {"any": "", "channel": seen.channel, "group": seen.group, "goal": seen.goal, "action": seen.action_id}


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    policies=st.lists(some.contact_policies(), max_size=6),
    own=st.lists(some.contacts(), max_size=6),
    account=st.lists(some.contacts(), max_size=3),
    asked=st.lists(some.contacts().map(counted_as), min_size=1, max_size=4),
)
def test_counting_at_once_says_what_the_policies_say_one_by_one(
    policies: Any, own: Any, account: Any, asked: Any
) -> None:
    counted = counts(*own, policies=tuple(policies), account=tuple(account))
    assert [counted.suppressing(one) for one in asked] == [by_hand(policies, own, account, [], one) for one in asked]
    for number in range(len(asked)):
        closed = counted.closed_by(asked[:number])
        assert [bool(counted.suppressing(one) or closed & set(one.items())) for one in asked] == [
            by_hand(policies, own, account, asked[:number], one) is not None for one in asked
        ]
