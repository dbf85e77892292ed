"""A person who asked to be forgotten is in no byte of any store, and does not come back."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis
from sqlalchemy import func, select

from decisioning.events import EventRecord
from nextmove import steps
from nextmove.serve import Service
from serving.events import Reported
from storage.hot_state.rebuild import rebuild
from storage.id_digests import id_digests
from storage.ledger.database import open_ledger
from storage.ledger.tables import events
from storage.privacy.erasure import GRACE, advance
from storage.privacy.export import export
from storage.privacy.requests import PrivacyRequest, ask_for_erasure, request_of, requests_of
from storage.settings import Settings
from tests.nextmove.conftest import free_port
from tests.nextmove.erasing import Person, Shop, copied, live, opened, places, somebody
from tests.nextmove.test_service import kill_all
from training.domains.simulated import Simulated

REDIS_URL = "redis://127.0.0.1:6379/13"


@pytest.fixture(params=["sqlite", "redis"])
def settings(
    request: pytest.FixtureRequest, shop_settings: Settings, small_world: Simulated, tmp_path: Path
) -> Iterator[Settings]:
    """A copy of the shop, with both kinds of stores."""
    if request.param == "sqlite":
        yield copied(shop_settings, tmp_path / "home")
        return
    client = redis.Redis.from_url(REDIS_URL)
    try:
        assert not client.dbsize(), f"{REDIS_URL} is in use"
    except redis.ConnectionError as error:
        if os.environ.get("NEXTMOVE_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"Redis cannot be used: {error}")
    own = copied(shop_settings, tmp_path / "home", hot_state="redis", online_store="redis", redis_url=REDIS_URL)
    steps.ingest_domain(own, small_world, now=datetime.now(UTC), progress=lambda _: None)
    try:
        yield own
    finally:
        client.flushdb()
        client.close()


def ask(shop: Shop, person: Person) -> PrivacyRequest:
    engine = open_ledger(shop.settings)
    digests = id_digests(shop.settings)
    now = datetime.now(UTC)
    units = shop.units(person)
    request = ask_for_erasure(engine, "simulated", units, digests, actor="admin", now=now)
    engine.dispose()
    shop.run(shop.hot_state.bury(units))
    return request


def erase(settings: Settings, request: PrivacyRequest) -> PrivacyRequest:
    engine = open_ledger(settings)
    request = advance(settings, engine, request, now=datetime.now(UTC))
    assert request.state == "pending", "what was under way may still come"
    request = advance(settings, engine, request, now=datetime.now(UTC) + GRACE)
    engine.dispose()
    return request


def test_an_erased_person_is_nowhere_and_does_not_come_back(settings: Settings, small_world: Simulated) -> None:
    person = somebody(settings)
    with opened(settings) as shop:
        ids = live(shop, person)
        before = places(settings, person)
        assert sum(before.values()) > 20, before
        request = ask(shop, person)

        done = erase(settings, request)
        assert done.state == "done"
        assert places(settings, person) == {}, "the service still runs"

        # Nothing that is told of them later is kept, and what is asked for them is asked for nobody.
        assert shop.tell("later", customer_id=person.id, name="purchase").status == "ignored"
        assert shop.tell("later-2", anonymous_id=person.visitor).status == "ignored"
        alias = {"type": "alias", "name": "alias", "customer_id": "new", "previous_id": person.alias}
        assert shop.tell("later-3", **alias).status == "ignored"
        assert shop.tell("others", customer_id="other", anonymous_id=person.visitor).status == "accepted"
        assert shop.report(decision_id=ids[0], type="click") == "ignored"
        assert shop.consent(person.id).status == "ignored"
        again = [
            shop.decide(customer_id=person.id, placement=placement, context={"who": person.id})
            for placement in ("home_hero", "home_hero", "newsletter")
        ]
        assert {record.reason for record in again} == {"FALLBACK_ERASED"}
        assert len({record.customer_id for record in again}) == 3, "nothing links two of them"
        assert again[0].slots
        assert all(slot.action_id == "no_action" for slot in again[2].slots), "nothing is sent"
        repeated = [
            shop.decide(customer_id=person.id, placement="home_hero", decision_id=f"{given}-1")
            for given in ("visit", "visit", person.id)
        ]
        assert repeated[0] == repeated[1]
        assert person.id not in repeated[2].decision_id
        assert shop.run(shop.engine.replay(again[0].decision_id)).identical

        steps.ingest_domain(settings, small_world, now=datetime.now(UTC), progress=lambda _: None)
        rebuild(settings, now=datetime.now(UTC))
        assert places(settings, person) == {}
        assert shop.decide(customer_id=person.id, placement="home_hero").reason == "FALLBACK_ERASED"
    assert places(settings, person) == {}


def test_what_is_erased_is_in_the_export(settings: Settings) -> None:
    person = somebody(settings)
    with opened(settings) as shop:
        live(shop, person)
        engine = open_ledger(settings)
        units = shop.units(person)
        document = json.loads(b"".join(export(settings, engine, units, now=datetime.now(UTC))))
        held = {part["name"]: len(part["items"]) for part in document["parts"]}
        done = erase(settings, ask(shop, person)).progress.counts
        empty = json.loads(b"".join(export(settings, engine, units, now=datetime.now(UTC))))
        engine.dispose()
    counts = {name.partition(".")[2]: number for name, number in held.items() if name.startswith("ledger.")}
    for table in ("decisions", "outcomes", "consents", "preferences", "moments", "audit"):
        assert 0 < done[table] <= counts[table], table
    assert done["events"] <= counts["events"] + 1, "one of somebody else's lost the device's id"
    for place in ("hot_state.", "features.online", "features.offline", "files."):
        assert sum(number for name, number in held.items() if name.startswith(place)) > 0, place
    assert all(part["kept_in"] and part["why"] and part["kept_for"] for part in document["parts"])
    assert not any(part["items"] for part in empty["parts"])


def test_the_request_names_nobody_once_it_is_done(settings: Settings) -> None:
    person = somebody(settings)
    with opened(settings) as shop:
        live(shop, person)
        request = ask(shop, person)
        assert set(person.units) < set(request.units)
        erase(settings, request)
        engine = open_ledger(settings)
        found = request_of(engine, "simulated", request.request_id)
        engine.dispose()
    assert found is not None
    assert (found.state, found.units, found.progress.actor) == ("done", (), "admin")


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_erasure_that_was_killed_in_the_middle_goes_on_when_the_service_starts_again(settings: Settings) -> None:
    person = somebody(settings)
    with opened(settings) as shop:
        live(shop, person)
        now = datetime.now(UTC)
        many = [
            Reported(
                EventRecord(
                    event_id=f"shop/many-{number}", source="shop", type="track", name="product_viewed",
                    customer_id=person.id, occurred_at=now, received_at=now,
                ),
                "a",
            )
            for number in range(6_000)
        ]  # fmt: skip
        shop.run(shop.engine.record_events(many))
    engine = open_ledger(settings)
    theirs = select(func.count()).select_from(events).where(events.c.customer_id == person.id)

    def left() -> int:
        with engine.connect() as connection:
            return connection.execute(theirs).scalar_one()

    victim = Service(settings, port=free_port())
    try:
        victim.wait_until_ready()
        told = httpx.delete(f"{victim.url}/v1/customers/{person.id}", timeout=10)
        assert told.status_code == 202
        deadline = time.monotonic() + 30
        while left() > 5_500:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        kill_all(victim.process.pid)
        victim.stop()
    assert left() > 0, "else it was not in the middle"

    again = Service(settings, port=free_port())
    try:
        again.wait_until_ready()
        asked = {"customer_id": person.id, "placement": "home_hero"}
        slowest = 0.0
        while left():
            assert time.monotonic() < deadline + 60
            began = time.perf_counter()
            answer = httpx.post(f"{again.url}/v1/decisions", json=asked, timeout=10).json()
            slowest = max(slowest, time.perf_counter() - began)
            assert answer["reason"] == "FALLBACK_ERASED"
        said = f"{again.url}/v1/privacy/requests/{told.json()['request_id']}"
        while not httpx.get(said, timeout=10).json()["counts"]:
            assert time.monotonic() < deadline + 60
            time.sleep(0.05)
        assert httpx.get(said, timeout=10).json()["status"] == "pending", "what was under way may still come"
    finally:
        again.stop()
    [pending] = requests_of(engine, "simulated")
    done = advance(settings, engine, pending, now=datetime.now(UTC) + GRACE)
    engine.dispose()
    assert done.state == "done"
    assert places(settings, person) == {}
    assert slowest < 5, "decisions go on meanwhile"
