"""The emergency stop: where it holds, what ends it, and what becomes of it when a store is down."""

import asyncio
from typing import Any

import pytest

from decisioning.catalog import Release
from decisioning.errors import RequestError, StillPaused, StoreError
from serving.engine import DrawKey, Engine
from serving.pauses import PauseAnswer, PauseRequest
from tests.builders import NOW, content, request
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer
from tests.serving.test_engine import Shop

MARKETS = Release(
    {"global": content(), "ch": content(market="ch"), "de": content(market="de")}, version="sha256:markets"
)


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    shop.engine.release = MARKETS
    return shop


def put(shop: Shop, *, paused: bool, market: str | None = None, action_id: str = "card") -> PauseAnswer:
    asked = PauseRequest(market=market, reason="wrong price")
    return asyncio.run(shop.engine.pause(action_id, asked, paused=paused, actor="ann", now=NOW))


def held(shop: Shop) -> set[str]:
    return set(asyncio.run(shop.engine.paused(now=NOW)))


def kept(shop: Shop) -> list[tuple[str, str]]:
    return [(entry.what.removeprefix("action."), entry.subject) for entry in shop.ledger.audits]


def is_paused(shop: Shop, **fields: Any) -> bool:
    record = asyncio.run(shop.engine.decide(request(**fields), now=NOW))
    return any((drop.action_id, drop.reason) == ("card", "PAUSED") for drop in record.dropped)


def test_resuming_everywhere_ends_the_pauses_of_single_markets_too(shop: Shop) -> None:
    for market in ("de", "global", None):
        put(shop, paused=True, market=market)
    put(shop, paused=True, market="de", action_id="loan")
    answer = put(shop, paused=False)
    assert (answer.status, answer.markets) == ("resumed", ("ch", "de", "global"))
    assert held(shop) == {"de/loan"}
    assert not any(is_paused(shop, market=market) for market in (None, "ch", "de"))


def test_one_market_goes_on_and_the_others_stay_paused(shop: Shop) -> None:
    put(shop, paused=True, market="de")
    put(shop, paused=True, market="ch")
    assert put(shop, paused=False, market="de").markets == ("de",)
    assert held(shop) == {"ch/card"}


def test_one_market_does_not_go_on_while_all_are_paused_and_is_told_what_to_do(shop: Shop) -> None:
    put(shop, paused=True)
    put(shop, paused=True, market="de")
    with pytest.raises(StillPaused, match="resume it without a market"):
        put(shop, paused=False, market="de")
    assert held(shop) == {"card", "de/card"}
    assert ("resume", "de/card") not in kept(shop)


def test_global_is_for_requests_without_a_market_and_the_answer_says_so(shop: Shop) -> None:
    assert put(shop, paused=True, market="global").markets == ("global",)
    assert [is_paused(shop, market=market) for market in (None, "global", "de")] == [True, True, False]


def test_a_market_that_there_is_not_changes_nothing(shop: Shop) -> None:
    with pytest.raises(RequestError, match="must be one of ch, de, global"):
        put(shop, paused=True, market="fr")
    assert (held(shop), kept(shop)) == (set(), [])


def test_a_stop_holds_even_where_it_cannot_be_kept(shop: Shop) -> None:
    shop.ledger.down = True
    with pytest.raises(StoreError, match="card is paused, but that could not be kept; send it again"):
        put(shop, paused=True)
    shop.ledger.down = False
    assert is_paused(shop)
    put(shop, paused=True)
    assert kept(shop) == [("pause", "card")]


def test_a_stop_that_hot_state_does_not_take_is_kept_and_holds_when_it_is_sent_again(shop: Shop) -> None:
    shop.hot_state.down = True
    with pytest.raises(StoreError, match="card is paused is kept, but it does not hold yet; send it again"):
        put(shop, paused=True)
    assert kept(shop) == [("pause", "card")]
    shop.hot_state.down = False
    put(shop, paused=True)
    assert is_paused(shop)


def test_a_stop_that_no_store_takes_says_so(shop: Shop) -> None:
    shop.hot_state.down = shop.ledger.down = True
    with pytest.raises(StoreError, match="card is not paused; send it again: hot state is down; the ledger is down"):
        put(shop, paused=True)


def test_what_cannot_be_kept_is_not_resumed(shop: Shop) -> None:
    put(shop, paused=True)
    shop.ledger.down = True
    with pytest.raises(StoreError, match="card is not resumed; send it again"):
        put(shop, paused=False)
    shop.ledger.down = False
    assert is_paused(shop)


def test_a_resume_that_hot_state_loses_half_way_holds_when_it_is_sent_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, paused=True)
    put(shop, paused=True, market="de")
    pause, calls = shop.hot_state.pause, []

    async def once(action: str, *, paused: bool) -> None:
        if calls:
            raise StoreError("hot state is down")
        calls.append(action)
        await pause(action, paused=paused)

    monkeypatch.setattr(shop.hot_state, "pause", once)
    with pytest.raises(StoreError, match="card is resumed is kept, but it does not hold yet; send it again"):
        put(shop, paused=False)
    monkeypatch.undo()
    put(shop, paused=False)
    assert held(shop) == set()
    assert kept(shop)[-2:] == [("resume", "card"), ("resume", "card")]


def test_while_hot_state_was_never_read_the_pauses_of_the_ledger_hold() -> None:
    hot_state = FakeHotState()
    hot_state.down = True
    engine = Engine(
        release=MARKETS,
        features=FakeFeatures(),
        hot_state=hot_state,
        ledger=FakeLedger(),
        scorer=FakeScorer(),
        draw_key=DrawKey(b"0123456789abcdef"),
        paused=("card",),
    )
    record = asyncio.run(engine.decide(request(), now=NOW))
    assert any((drop.action_id, drop.reason) == ("card", "PAUSED") for drop in record.dropped)
