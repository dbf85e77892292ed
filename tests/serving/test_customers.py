"""What customers say over HTTP holds at their next decision."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decisioning.catalog import Release
from decisioning.content import Asks
from decisioning.content_types import BLUEPRINT
from decisioning.profile import Consent, HotProfile
from serving.customers import ConsentStatement, PreferencesStatement
from serving.engine import DrawKey, Engine
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import action, catalog, contact, placement, request
from tests.fakes import FakeFeatures, FakeScorer
from tests.serving.test_access import KEYS, Site
from tests.serving.test_access import _counting_in_this_process as _counting_in_this_process
from tests.serving.test_engine import Shop
from tests.serving.test_http import problem
from tests.storage.hot_stores import settings_for

EMAIL = {"purpose": "marketing", "channel": "email"}
YES = EMAIL | {"granted": True}
CONSENT, PREFERENCES = "/v1/customers/c-1/consent", "/v1/customers/c-1/preferences"


def site(hot: HotProfile = HotProfile(), **overrides: Any) -> Site:  # noqa: B008 (frozen)
    return Site(*KEYS, shop=Shop(catalog(**{"topics": None, **overrides}), hot=hot))


def put(told: Site, path: str, body: Any, key: str = "agent") -> Any:
    return told.call("PUT", path, key, json=body)


def sent(told: Site, **asked: Any) -> list[str]:
    body = told.decide("admin", placement="newsletter", **asked).json()
    return [each["action_id"] for each in body["actions"]]


def test_a_consent_holds_at_the_next_decision_and_its_withdrawal_at_the_one_after() -> None:
    told = site(actions=(action("card"),))
    assert sent(told) == []
    given = put(told, CONSENT, YES | {"source": "call centre", "legal_basis": "Art. 6(1)(a)"})
    assert (given.status_code, given.json()) == (
        200,
        {"customer_id": "c-1", "consents": [EMAIL], "withdrawn": [], "suppressed": [], "preferences": None},
    )
    [kept] = told.shop.ledger.consents
    assert (kept.source, kept.legal_basis, kept.granted) == ("call centre", "Art. 6(1)(a)", True)
    assert sent(told) == ["card"]
    assert put(told, CONSENT, EMAIL | {"granted": False}).json()["withdrawn"] == [EMAIL]
    assert sent(told) == []
    assert told.shop.ledger.consents[-1].source == "the agent one"


def test_a_list_is_kept_all_or_none_and_without_a_channel_all_are_meant() -> None:
    told = site()
    wrong = put(told, CONSENT, [YES, YES | {"purpose": "sales"}])
    assert problem(wrong) == (400, "invalid_request", "[1].purpose")
    assert told.shop.ledger.consents == []
    both = put(told, CONSENT, [YES, {"purpose": "personalisation", "granted": True}]).json()
    channels = [(each["purpose"], each["channel"]) for each in both["consents"]]
    assert channels == [("marketing", "email"), ("personalisation", "email"), ("personalisation", "web")]


FUTURE = (datetime.now(UTC) + timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    ("path", "body", "where", "said"),
    [
        (CONSENT, YES | {"purpose": "sales"}, "purpose", "must be one of personalisation, marketing"),
        (CONSENT, YES | {"channel": "fax"}, "channel", "must be one of email, web, or left out"),
        (CONSENT, YES | {"at": FUTURE}, "at", "must not lie in the future"),
        (CONSENT, YES | {"at": "1970-01-01T00:00:00Z"}, "at", "2000"),
        (CONSENT, EMAIL, None, "granted"),
        (CONSENT, YES | {"why": "x"}, None, "why"),
        (CONSENT, [], None, "1 to 100"),
        (CONSENT, [YES, 3], "[1]", "object"),
        ("/v1/customers/c%011/consent", YES, "customer_id", "customer_id"),
        (PREFERENCES, {"topics": {"exclude": ["boats"]}}, "topics.exclude[0]", "must be one of cards, loans, other"),
        (PREFERENCES, {"frequency": {"limit": 2, "within": "P31D"}}, "frequency.within", "at most P30D"),
        (PREFERENCES, {"frequency": {"limit": -1, "within": "P1D"}}, "frequency.limit", ">= 0"),
        (PREFERENCES, {"frequency": {"limit": 1}}, "frequency", "within"),
        (PREFERENCES, {"at": FUTURE}, "at", "future"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_kept(path: str, body: Any, where: str | None, said: str) -> None:
    told = site()
    answer = put(told, path, body)
    assert problem(answer) == (400, "invalid_request", where)
    assert said in answer.json()["detail"]
    assert (told.shop.ledger.consents, told.shop.ledger.preferences) == ([], [])


def test_preferences_hold_at_the_next_decision_and_are_replaced_as_a_whole() -> None:
    told = site(HotProfile(consents=(Consent("marketing", "email"),)),
                actions=(action("card"), action("loan", group="loans")))  # fmt: skip
    wished = {"topics": {"include": None, "exclude": ["cards"]}, "frequency": {"limit": 1, "within": "P7D"}}
    assert put(told, PREFERENCES, wished | {"source": "preference centre"}).json()["preferences"] == wished
    assert sent(told) == ["loan"]
    assert sent(told) == []
    assert told.shop.ledger.preferences[-1].source == "preference centre"
    assert put(told, PREFERENCES, {}).json()["preferences"] == {
        "topics": {"include": None, "exclude": []}, "frequency": None,
    }  # fmt: skip
    assert sent(told) != []


@pytest.mark.parametrize("path", [CONSENT, PREFERENCES])
def test_a_word_that_cannot_be_kept_or_told_is_an_error(path: str) -> None:
    told = site()
    body = YES if path == CONSENT else {}
    told.shop.hot_state.down = True
    assert problem(put(told, path, body))[:2] == (503, "store_unavailable")
    assert len(told.shop.ledger.consents) + len(told.shop.ledger.preferences) == 1
    told.shop.ledger.down, told.shop.hot_state.down = True, False
    assert problem(put(told, path, body))[:2] == (503, "store_unavailable")
    assert told.shop.hot_state.profile == HotProfile()


def test_a_fast_clock_s_word_does_not_beat_a_later_one() -> None:
    told = site()
    put(told, CONSENT, YES | {"at": (datetime.now(UTC) + timedelta(minutes=4)).isoformat()})
    assert told.shop.ledger.consents[0].at <= datetime.now(UTC)


# Sec-GPC.


@pytest.mark.parametrize(("header", "is_known"), [("1", False), (" 1", False), ("0", True), ("", True)])
def test_sec_gpc_is_honoured_in_every_way_to_ask(header: str, is_known: bool) -> None:
    told, headers = site(), {"sec-gpc": header}
    reason = "RANKED" if is_known else "FALLBACK_NOT_PERSONALISED"
    ask = {"customer_id": "c-1", "placement": "home_hero"}
    single = told.call("POST", "/v1/decisions", "decide", json=ask, headers=headers).json()
    assert single["reason"] == reason
    batch = told.call("POST", "/v1/decisions/batch", "decide", json={"requests": [ask]}, headers=headers).json()
    assert batch["results"][0]["decision"]["reason"] == reason
    assert told.shop.ledger.decisions[single["decision_id"]][0].personal is is_known


def test_a_server_may_pass_the_signal_on() -> None:
    told = site()
    assert told.decide("decide", global_privacy_control=True).json()["reason"] == "FALLBACK_NOT_PERSONALISED"


# Actions that ask for a consent.


def asking(*contacts: Any, **overrides: Any) -> Site:
    ask = action("ask", asks=Asks(purpose="marketing", channel="email"))
    place = placement(attribution_window=timedelta(days=2), slots=1)
    mail = placement("newsletter", channel="email", shown_by="sent")
    return site(HotProfile(contacts=contacts), actions=(ask,), placements=(place, mail), **overrides)


def met(ago: timedelta, decision_id: str = "d-1", **overrides: Any) -> Any:
    at = datetime.now(UTC) - ago
    return contact(**{"action_id": "ask", "placement": "home_hero", "decision_id": decision_id, "at": at, **overrides})


def accepted(told: Site) -> list[tuple[str, str | None, str]]:
    return [(o.decision_id, o.action_id, o.type) for o, _ in told.shop.ledger.outcomes.values()]


def test_a_granted_consent_is_the_accept_of_what_asked_for_it_once() -> None:
    told = asking()
    decided = told.decide("decide").json()["decision_id"]
    for _ in range(2):
        assert put(told, CONSENT, YES).status_code == 200
    assert accepted(told) == [(decided, "ask", "accept")]
    assert [each.outcome.type for each in told.shop.hot_state.applied] == ["accept"]
    dropped = told.decide("decide", explain=True).json()["dropped"]
    assert [drop["reason"] for drop in dropped] == ["ALREADY_CONSENTED"]


@pytest.mark.parametrize(
    ("contacts", "body", "credited"),
    [
        ((met(timedelta(days=3)),), YES, []),
        ((met(timedelta(days=1)),), YES, ["d-1"]),
        ((met(timedelta(days=1)), met(timedelta(hours=1), "d-2")), YES, ["d-2"]),
        ((met(timedelta(days=1)), met(timedelta(hours=1), "d-2", accepted_at=datetime.now(UTC))), YES, []),
        ((met(timedelta(days=1)),), YES | {"granted": False}, []),
        ((met(timedelta(days=1)),), YES | {"channel": "web"}, []),
        ((met(timedelta(days=1)),), YES | {"purpose": "personalisation"}, []),
        ((met(timedelta(days=1)),), YES | {"at": (datetime.now(UTC) - timedelta(days=2)).isoformat()}, []),
        ((met(timedelta(days=1), action_id="other"),), YES, []),
    ],
)
def test_only_the_last_that_asked_within_its_window_is_credited(contacts: Any, body: Any, credited: list[str]) -> None:
    told = asking(*contacts)
    assert put(told, CONSENT, body).status_code == 200
    assert accepted(told) == [(decision_id, "ask", "accept") for decision_id in credited]


# Over real stores.


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def test_what_one_replica_is_told_the_next_decision_of_another_knows(kind: str, tmp_path: Path) -> None:
    place = placement("newsletter", channel="email", shown_by="sent", slots=1)
    shop = catalog(action("card"), action("loan", group="loans"), placements=(place,), topics=None,
                   personalisation="consent")  # fmt: skip
    now = datetime.now(UTC)

    async def scenario(settings: Settings) -> None:
        async with contextlib.AsyncExitStack() as opened:
            engines = []
            for _ in range(2):
                ledger, hot_state = Ledger(settings), open_hot_state(settings, now=now)
                opened.callback(ledger.close)
                opened.callback(hot_state.close)
                engines.append(
                    Engine(
                        release=Release({BLUEPRINT: shop.content}, version="sha256:test"),
                        features=FakeFeatures(),
                        hot_state=hot_state,
                        ledger=ledger,
                        scorer=FakeScorer(),
                        draw_key=DrawKey(b"0123456789abcdef"),
                    )
                )
            told, other = engines

            async def next_one() -> tuple[list[str], bool]:
                record = await other.decide(request(placement="newsletter"), now=datetime.now(UTC))
                again = await other.replay(record.decision_id)
                assert again.verdict == "identical"
                return [slot.action_id for slot in record.slots], record.personal

            def consents(**said: Any) -> ConsentStatement:
                return ConsentStatement(**{"purpose": "marketing", "channel": "email", "granted": True, **said})

            async def say(*said: ConsentStatement) -> None:
                await told.customers.consent("c-1", said, told.release, actor="ann", now=datetime.now(UTC))

            async def wish(**said: Any) -> None:
                wished = msgspec.convert(said, PreferencesStatement)
                await told.customers.prefer("c-1", wished, told.release, actor="ann", now=datetime.now(UTC))

            assert await next_one() == ([], False)
            await say(consents())
            assert (await next_one())[1] is False
            await say(consents(purpose="personalisation"))
            await wish(topics={"exclude": ["loans"]})
            assert await next_one() == (["card"], True)
            await wish(topics={"include": ["loans"]})
            assert await next_one() == (["loan"], True)
            await wish(frequency={"limit": 3, "within": "P1D"})
            assert await next_one() == ([], True)
            await wish()
            assert len((await next_one())[0]) == 1
            await told.customers.unsubscribe("c-1", "email", domain="shop", now=datetime.now(UTC))
            assert await next_one() == ([], True)

    with settings_for(kind, Settings(home=tmp_path / "state", domain="shop")) as settings:
        asyncio.run(scenario(settings))
