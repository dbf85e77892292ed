"""What sources tell is counted: by hour, name and what became of it; and written down without being lost."""

import asyncio
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.currencies import Currencies
from decisioning.errors import StoreError
from decisioning.event_content import Source
from decisioning.events import EventRecord
from decisioning.feeds import HOUR, FeedCount
from serving import feeds
from serving.events import Reported
from serving.feed_watch import FeedWatch
from serving.feeds import FeedTally
from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from storage.ledger.feed_counts import FeedCounts
from storage.settings import Settings
from tests.builders import NOW, catalog
from tests.serving.test_callers import callers_with
from tests.serving.test_engine import Shop


@pytest.fixture
def shop() -> Shop:
    return Shop(catalog(sources=(Source(id="local", events={"sale": "purchase"}, ignored=("ping",)),)))


@pytest.fixture
def client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    return TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with()))


def counted(tally: FeedTally) -> dict[tuple[str, str, str], int]:
    """By source, name and what, of all hours."""
    found: Counter[tuple[str, str, str]] = Counter()
    for each in tally.take():
        found[each.source, each.name, each.what] += each.count
    return dict(found)


def test_events_are_counted_by_what_became_of_them(client: TestClient, shop: Shop) -> None:
    sale = {"type": "track", "userId": "c", "event": "sale"}
    batch: list[Any] = [
        {**sale, "messageId": "1", "properties": {"amount": 3, "note": None}},
        {**sale, "messageId": "1", "properties": {"amount": 3, "note": None}},
        {**sale, "messageId": "2", "properties": {"amount": "3"}},
        {"type": "track", "userId": "c", "event": "Song Played", "messageId": "3"},
        {"type": "track", "userId": "c", "event": "ping", "messageId": "4"},
        {"type": "track", "userId": "c"},
        {"type": "track", "event": "sale"},
    ]
    assert client.post("/v1/batch", json={"batch": batch}).status_code == 200
    assert counted(shop.engine.feeds) == {
        ("local", "purchase", "received"): 3,
        ("local", "purchase", "duplicate"): 1,
        ("local", "purchase", "occurred"): 2,
        ("local", "purchase", "type:amount:number"): 2,
        ("local", "purchase", "type:amount:text"): 1,
        ("local", "purchase", "type:note:null"): 2,
        ("local", "song_played", "received"): 1,
        ("local", "song_played", "occurred"): 1,
        ("local", "Song Played", "unmapped"): 1,
        ("local", "ping", "ignored"): 1,
        ("local", "other", "rejected"): 2,
    }


def test_outcomes_are_counted_by_what_became_of_them(client: TestClient, shop: Shop) -> None:
    told = {"decision_id": "d", "type": "click", "outcome_id": "o"}
    answers = client.post("/v1/outcomes", json=[told, {**told, "outcome_id": "p", "action_id": "moon"}, told]).json()
    assert [each["status"] for each in answers["results"]] == ["accepted", "rejected", "duplicate"]
    assert counted(shop.engine.feeds) == {
        ("this machine", "outcome:click", "received"): 2,
        ("this machine", "outcome:click", "occurred"): 1,
        ("this machine", "outcome:click", "rejected"): 1,
        ("this machine", "outcome:click", "duplicate"): 1,
    }


def test_what_is_kept_counts_though_hot_state_cannot_be_told(shop: Shop) -> None:
    shop.hot_state.down = True
    sale = event()
    with pytest.raises(StoreError):
        asyncio.run(shop.engine.record_events([reported(sale)]))
    assert counted(shop.engine.feeds)["till", "sale", "occurred"] == 1


def event(**fields: Any) -> EventRecord:
    defaults = {
        "event_id": "till/1", "source": "till", "type": "track", "name": "sale", "customer_id": "c",
        "occurred_at": NOW, "received_at": NOW,
    }  # fmt: skip
    return EventRecord(**(defaults | fields))


def reported(said: EventRecord) -> Reported:
    return Reported(said, "digest")


def test_an_event_counts_when_it_came_and_when_it_happened() -> None:
    tally = FeedTally()
    india = timezone(timedelta(hours=5, minutes=30))
    happened = datetime(2026, 3, 1, 23, 45, tzinfo=india)  # 18:15 UTC
    said = event(occurred_at=happened)
    tally.event(said, said, "accepted")
    hours = {each.what: (each.hour, each.last_at) for each in tally.take()}
    assert hours == {
        "received": (NOW, NOW),
        "occurred": (datetime(2026, 3, 1, 18, tzinfo=UTC), happened),
    }


def test_money_without_a_rate_is_no_name_without_a_meaning() -> None:
    tally = FeedTally()
    said = event(properties=Currencies("EUR").converted({"value": 5.0, "currency": "XAU"}))
    tally.event(said, said, "accepted", mapped=False)
    found = counted(tally)
    assert found["till", "sale", "unconverted"] == 1
    assert ("till", "sale", "unmapped") not in found


def test_the_latest_instant_is_known_whatever_the_order() -> None:
    tally = FeedTally()
    for minutes in (5, 50, 20):
        said = event(received_at=NOW + timedelta(minutes=minutes))
        tally.event(said, said, "accepted")
    assert {each.last_at for each in tally.take() if each.what == "received"} == {NOW + timedelta(minutes=50)}


def test_names_that_a_client_makes_up_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MOST_SOURCES", "MOST_NAMES", "MOST_PROPERTIES"):
        monkeypatch.setattr(feeds, limit, 3)
    tally = FeedTally()
    for number in range(10):
        for source, name in ((f"s{number}", "sale"), ("s0", f"n{number}"), ("s0", "n0")):
            said = event(source=source, name=name, properties={f"p{number}": 1, "x" * 300: 1})
            tally.event(said, said, "accepted")
    found = counted(tally)
    assert {source for source, _, _ in found} == {"s0", "s1", "s2", "other"}
    assert {name for source, name, _ in found if source == "s0"} == {"sale", "n0", "n1", "other"}
    assert sum(count for (_, _, what), count in found.items() if what == "received") == 30
    assert len({what for _, name, what in found if name == "n0" and what.startswith("type")}) == 3
    assert max(len(what) for _, _, what in found) < 220


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", domain="shop")


def test_counts_are_written_down_and_added_up(settings: Settings) -> None:
    counts = FeedCounts(settings)
    for minutes in (30, 29):
        tally = FeedTally()
        watch = FeedWatch(tally, counts, time_zone=lambda: "UTC")
        said = event(received_at=NOW + timedelta(minutes=minutes))
        tally.event(said, said, "accepted")
        watch.write()
        watch.write()
    assert counts.read(since=NOW, what=("received",)) == [
        FeedCount("till", "sale", NOW, "received", 2, NOW + timedelta(minutes=30))
    ]
    assert counts.read(since=NOW + HOUR) == []
    assert counts.last_heard(since=NOW) == {"till": NOW + timedelta(minutes=30)}
    with closing(FeedCounts(Settings(home=settings.home, domain="bank"))) as other:
        assert other.read(since=NOW) == [], "each domain has its own"
    counts.close()


class Refusing(FeedCounts):
    """A ledger that cannot be written."""

    down = True

    def add(self, counts: Any) -> None:
        if self.down:
            raise StoreError("the ledger is locked")
        super().add(counts)


def test_counts_that_cannot_be_written_wait(settings: Settings) -> None:
    counts, tally = Refusing(settings), FeedTally()
    watch = FeedWatch(tally, counts, time_zone=lambda: "UTC")
    for _ in range(2):
        tally.event(event(), event(), "accepted")
        watch.write()
    counts.down = False
    watch.write()
    assert [each.count for each in counts.read(since=NOW, what=("received",))] == [2]
    counts.close()


def test_a_watch_writes_what_is_left_when_it_stops(settings: Settings) -> None:
    tally = FeedTally()
    watch = FeedWatch(tally, FeedCounts(settings), time_zone=lambda: "UTC")
    watch.start()
    tally.event(event(), event(), "accepted")
    watch.stop()
    with closing(FeedCounts(settings)) as counts:
        assert [each.count for each in counts.read(since=NOW, what=("received",))] == [1]


def five_weeks(source: str, name: str, *, until: datetime) -> list[FeedCount]:
    begin = NOW - timedelta(days=35)
    hours = (begin + number * HOUR for number in range(35 * 24))
    return [FeedCount(source, name, hour, "received", 9, hour) for hour in hours if hour < until]


def test_a_source_that_stops_raises_its_metric(settings: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    counts = FeedCounts(settings)
    stopped = NOW - timedelta(hours=12)
    counts.add(five_weeks("till", "sale", until=stopped))
    counts.add(five_weeks("web", "page", until=NOW) + five_weeks("app", "page", until=NOW))
    counts.add(five_weeks("app", "cart_added", until=stopped))
    watch = FeedWatch(FeedTally(), counts, time_zone=lambda: "UTC")
    watch.look(now=NOW)
    assert watch.silent == {"till", "app"}, "of the app, one feed is"
    assert watch.last_heard["till"] == stopped - HOUR
    text = Metrics(lambda: shop.engine, hot_state_lost=lambda: False, feeds=lambda: watch).render().decode()
    assert 'nextmove_feed_silent{source="till"} 1.0' in text
    assert 'nextmove_feed_silent{source="web"} 0.0' in text
    assert 'nextmove_feed_last_event_age_seconds{source="till"}' in text
    counts.add([FeedCount("till", "sale", NOW, "received", 9, NOW)])
    watch.look(now=NOW + timedelta(minutes=1))
    assert watch.last_heard["till"] == NOW
    assert watch.silent == {"till", "app"}, "judged once an hour"
    counts.close()


def test_before_the_service_is_open_there_is_nothing_to_say_of_feeds(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    assert b"nextmove_feed" not in Metrics(lambda: shop.engine, hot_state_lost=lambda: False).render()
