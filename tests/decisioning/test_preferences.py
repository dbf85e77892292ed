from datetime import timedelta
from typing import Any

import msgspec
import pytest

from decisioning.catalog import Catalog
from decisioning.content import Asks, Channel
from decisioning.content_types import NO_ACTION
from decisioning.errors import CatalogError, RequestError
from decisioning.preferences import Frequency, Preferences, Topics
from decisioning.profile import Consent, HotProfile
from tests.builders import CONSENTED, NOW, action, catalog, contact, placement
from tests.decisioning.test_eligibility import kept, narrowed, why

WEEK, INSTANT = timedelta(days=7), timedelta(microseconds=1)
MAILS = {"channel": "email", "placement": "newsletter"}


def shop(**overrides: Any) -> Catalog:
    actions = action("card"), action("loan", group="loans"), action(NO_ACTION, group="other")
    return catalog(*actions, **{"topics": None, **overrides})


def wishing(**wishes: Any) -> HotProfile:
    """A customer who consented, with these preferences, and may have contacts."""
    contacts = wishes.pop("contacts", ())
    preferences = msgspec.convert(wishes, Preferences)
    return msgspec.structs.replace(CONSENTED, preferences=preferences, contacts=contacts)


def mailed(*ago: timedelta, decision_id: str | None = None) -> tuple[Any, ...]:
    return tuple(contact("old", ago=each, decision_id=decision_id or f"d-{each}", **MAILS) for each in ago)


@pytest.mark.parametrize("where", ["home_hero", "newsletter"])
@pytest.mark.parametrize(
    ("topics", "left"),
    [
        ({}, ["card", "loan", NO_ACTION]),
        ({"exclude": ["loans"]}, ["card", NO_ACTION]),
        ({"include": ["loans"]}, ["loan", NO_ACTION]),
        ({"include": []}, [NO_ACTION]),
        ({"include": ["loans", "cards"], "exclude": ["cards"]}, ["loan", NO_ACTION]),
        ({"exclude": ["other"]}, ["card", "loan", NO_ACTION]),
    ],
)
def test_topics_bind_what_is_shown_and_what_is_sent(topics: Any, left: list[str], where: str) -> None:
    assert kept(narrowed(shop(), hot=wishing(topics=topics), placement=where)) == left


def test_a_refused_topic_is_named() -> None:
    result = narrowed(shop(), hot=wishing(topics={"exclude": ["loans"]}))
    assert [(d.reason, d.detail) for d in result.dropped] == [
        ("PREFERENCE", "the customer does not wish to hear of loans")
    ]


def test_of_what_is_no_topic_everyone_hears() -> None:
    hot = wishing(topics={"include": [], "exclude": ["loans"]})
    assert kept(narrowed(shop(topics=("cards",)), hot=hot)) == ["loan", NO_ACTION]


def test_where_preferences_cannot_be_read_no_topic_is_shown() -> None:
    result = narrowed(shop(topics=("loans",)), hot=None)
    assert kept(result) == ["card", NO_ACTION]
    assert why(result) == {"loan": ("engagement_policy", "PREFERENCES_UNKNOWN")}
    assert kept(narrowed(shop(), hot=None)) == [NO_ACTION]


def test_a_topic_of_the_catalogue_must_be_a_group() -> None:
    with pytest.raises(CatalogError, match="topics: 'boats' is not defined, must be one of cards, loans, other"):
        shop(topics=("boats",))


@pytest.mark.parametrize(
    ("ago", "is_sent"),
    [((), True), ((timedelta(days=1),), True), ((timedelta(days=1), timedelta(days=2)), False),
     ((timedelta(days=1), WEEK), True), ((timedelta(days=1), WEEK - INSTANT), False)],
)  # fmt: skip
def test_a_customer_s_own_frequency_is_one_more_cap_on_what_is_sent(ago: Any, is_sent: bool) -> None:
    hot = wishing(frequency={"limit": 2, "within": "P7D"}, contacts=mailed(*ago))
    result = narrowed(shop(), hot=hot, placement="newsletter")
    assert ("card" in kept(result)) is is_sent
    if not is_sent:
        [first, _] = result.dropped
        detail = "preferences: the customer wishes for at most 2 messages within P7D"
        assert (first.step, first.reason, first.detail) == ("contact_policy", "CAP_REACHED", detail)
    assert "card" in kept(narrowed(shop(), hot=hot))  # who comes to us is answered


def test_several_actions_of_one_message_are_one_and_pages_are_none() -> None:
    both = mailed(timedelta(days=1), timedelta(days=1), decision_id="d-1")
    seen = (contact("old", placement="home_hero", decision_id="d-2"),)
    hot = wishing(frequency={"limit": 2, "within": "P7D"}, contacts=(*both, *seen))
    assert "card" in kept(narrowed(shop(), hot=hot, placement="newsletter"))


def test_a_frequency_of_nothing_lets_nothing_be_sent() -> None:
    hot = wishing(frequency={"limit": 0, "within": "P30D"})
    assert kept(narrowed(shop(), hot=hot, placement="newsletter")) == [NO_ACTION]


@pytest.mark.parametrize(
    ("wishes", "where"),
    [
        (Preferences(topics=Topics(include=("cards", "boats"))), "topics.include[1]"),
        (Preferences(topics=Topics(exclude=("boats",))), "topics.exclude[0]"),
        (Preferences(frequency=Frequency(limit=1, within=timedelta(0))), "frequency.within"),
        (Preferences(frequency=Frequency(limit=1, within=timedelta(days=30) + INSTANT)), "frequency.within"),
    ],
)
def test_a_wish_that_cannot_be_kept_to_is_refused(wishes: Preferences, where: str) -> None:
    with pytest.raises(RequestError) as refused:
        wishes.checked(("cards", "loans"))
    assert refused.value.where == where


def test_a_wish_that_can_be_kept_to_is_taken() -> None:
    wishes = Preferences(topics=Topics(include=("cards",)), frequency=Frequency(limit=1, within=timedelta(days=30)))
    assert wishes.checked(("cards", "loans")) is wishes


def test_who_said_no_to_marketing_is_sent_nothing_whatever_the_channel_requires() -> None:
    free = shop(channels=(Channel("web"), Channel("email")))
    hot = HotProfile(withdrawn=(Consent("marketing", "email"), Consent("marketing", "web")))
    result = narrowed(free, hot=hot, placement="newsletter")
    assert why(result)["card"] == ("consent", "OBJECTED")
    assert kept(result) == [NO_ACTION]
    assert "card" in kept(narrowed(free, hot=hot))
    others = HotProfile(withdrawn=(Consent("marketing", "sms"), Consent("personalisation", "email")))
    assert "card" in kept(narrowed(free, hot=others, placement="newsletter"))


def test_a_consent_is_not_asked_for_twice_nor_while_nobody_knows() -> None:
    asking = catalog(action("ask", asks=Asks(purpose="marketing", channel="email")), placements=(placement(),))
    assert kept(narrowed(asking, hot=HotProfile())) == ["ask"]
    assert kept(narrowed(asking, hot=HotProfile(consents=(Consent("marketing", "web"),)))) == ["ask"]
    assert why(narrowed(asking, hot=CONSENTED)) == {"ask": ("engagement_policy", "ALREADY_CONSENTED")}
    assert why(narrowed(asking, hot=None)) == {"ask": ("engagement_policy", "CONSENT_UNKNOWN")}


def test_an_action_can_ask_only_for_a_channel_that_there_is() -> None:
    with pytest.raises(CatalogError, match=r"actions\[ask\].asks.channel: 'sms' is not defined"):
        catalog(action("ask", asks=Asks(purpose="marketing", channel="sms")))


def test_time_is_the_customer_s_own_planned_one() -> None:
    hot = wishing(frequency={"limit": 1, "within": "P1D"}, contacts=mailed(timedelta(hours=23)))
    assert kept(narrowed(shop(), hot=hot, placement="newsletter")) == [NO_ACTION]
    later = (NOW + timedelta(hours=1)).isoformat()
    assert "card" in kept(narrowed(shop(), hot=hot, placement="newsletter", planned_at=later))
