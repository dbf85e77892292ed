"""The keeper makes states complete beside a running service, and says so while it does."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from decisioning.events import EventRecord
from serving.engine import Engine
from serving.state_keeper import StateKeeper
from storage.hot_state.rebuild import open_hot_state
from storage.hot_state.state_replay import open_states
from storage.hot_state.states import IN_USE
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import NOW, action, catalog
from tests.serving.test_engine import Shop
from tests.storage.hot_stores import settings_for
from tests.storage.kept import event
from tests.storage.released import release

WEEK, DAY = timedelta(days=7), timedelta(days=1)
ORDERS = EventFeature(id="orders", event="purchase", compute="count", windows=(WEEK,))
SPEND = EventFeature(id="spend", event="purchase", compute="sum", of="value", windows=(WEEK,))
DIGEST, OTHER = (EventFeatures([declared]).states.digest for declared in (ORDERS, SPEND))


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", pointer_poll_seconds=0.02)


def served(*declared: EventFeature) -> Engine:
    return Shop(catalog(action("card"), event_features=declared)).engine


def keep(settings: Settings, *events: EventRecord) -> None:
    with closing(Ledger(settings)) as ledger:
        asyncio.run(ledger.append_events([(each, each.event_id) for each in events]))


def keeper_of(settings: Settings, engine: Engine, *, now: datetime = NOW) -> StateKeeper:
    open_hot_state(settings, now=NOW).close()
    return StateKeeper(engine, settings, clock=lambda: now)


def test_it_completes_what_the_engine_reads_and_warns_until_then(chosen: Settings) -> None:
    release(chosen, [ORDERS], at=NOW - timedelta(seconds=1))
    keep(chosen, event())
    keeper = keeper_of(chosen, served(ORDERS))
    keeper.check()
    assert keeper.warnings == ["features over events are unknown until the ledger's events are replayed (1 so far)"], (
        "for some seconds others may not follow the release"
    )
    later = keeper_of(chosen, served(ORDERS), now=NOW + timedelta(seconds=10))
    later.check()
    assert later.warnings == []
    assert open_states(chosen).replayed(DIGEST).complete


def test_a_new_declaration_is_replayed_and_the_one_before_it_dropped_once_nobody_uses_it(chosen: Settings) -> None:
    release(chosen, [ORDERS], at=NOW - DAY)
    keep(chosen, event())
    engine = served(ORDERS)
    keeper_of(chosen, engine).check()
    release(chosen, [SPEND], at=NOW - timedelta(hours=1))
    engine.release = served(SPEND).release
    keeper_of(chosen, engine).check()
    states = open_states(chosen)
    assert states.replayed(OTHER).complete
    assert states.replayed(DIGEST).complete, "a replica may still serve it"
    keeper_of(chosen, engine, now=NOW + IN_USE).check()
    assert states.replayed(OTHER).complete
    assert not states.replayed(DIGEST).complete


def test_a_release_that_the_engine_does_not_follow_yet_is_waited_for(chosen: Settings) -> None:
    release(chosen, [SPEND], at=NOW - DAY)
    keeper = keeper_of(chosen, served(ORDERS))
    keeper.check()
    assert not open_states(chosen).replayed(DIGEST).complete
    assert keeper.warnings


def test_without_features_there_is_nothing_to_do(chosen: Settings) -> None:
    keeper = keeper_of(chosen, served())
    keeper.check()
    assert keeper.warnings == []


def test_in_the_background_it_goes_on_after_a_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    release(settings, [ORDERS], at=NOW - DAY)
    keeper = keeper_of(settings, served(ORDERS))
    with monkeypatch.context() as broken:
        broken.setattr("serving.state_keeper.replay_states", lambda *_given, **_named: 1 / 0)
        keeper.start()
        assert waited(lambda: keeper.warnings == ["features over events may be unknown: division by zero"])
    assert waited(lambda: keeper.warnings == [])
    keeper.stop()
    assert open_states(settings).replayed(DIGEST).complete


def waited(said: Callable[[], bool]) -> bool:
    for _ in range(250):
        if said():
            return True
        time.sleep(0.02)
    return False
