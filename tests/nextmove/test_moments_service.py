"""Moments of a running service, which is killed on the way: decided once, delivered at least once."""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import update

from decisioning.event_content import Moment, ToWebhook
from nextmove.serve import Service
from storage.blobs import BlobStore
from storage.catalog_files import catalog_pointer
from storage.ledger.database import open_ledger, writing
from storage.ledger.moments import KeptMoment, MomentStore
from storage.ledger.reader import LedgerReader
from storage.ledger.tables import moments
from storage.settings import Settings
from tests.nextmove.conftest import free_port
from tests.nextmove.test_service import kill_all
from tests.serving.receivers import SECRET, Receiver, receiver

EVENTS = ("cart_added", "checkout_started")


@pytest.fixture
def settings(shop_settings: Settings, tmp_path: Path) -> Settings:
    """The shop's state, with two moments more: one that is due at once, and one after two seconds."""
    home = tmp_path / "state"
    shutil.copytree(shop_settings.home, home)
    found = replace(shop_settings, home=home)
    declared = [
        Moment(
            id=f"on_{event}", event=event, delay=timedelta(seconds=2 * number), placement="home_hero",
            deliver=ToWebhook(webhook="crm"),
        )
        for number, event in enumerate(EVENTS)
    ]  # fmt: skip
    with closing(BlobStore(found)) as blobs:
        live = blobs.pointer(catalog_pointer(found.domain))
        assert live is not None
        contents = msgspec.json.decode(blobs.get(live))
        for content in contents.values():
            content["moments"] = msgspec.to_builtins(declared)
        changed = blobs.put(msgspec.json.encode(contents))
        blobs.point(catalog_pointer(found.domain), changed, now=datetime.now(UTC), reason="test")
    return found


def send_to(crm: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "webhooks.toml"
    file.write_text(f'[crm]\nurl = "{crm.url}"\nsecret = "{SECRET}"\nallow_private = true\n', encoding="utf-8")
    monkeypatch.setenv("NEXTMOVE_WEBHOOKS", str(file))


def tell(service: Service, name: str) -> None:
    body = {"userId": "c-00007", "event": name, "messageId": name, "properties": {"value": 20.0}}
    [result] = httpx.post(f"{service.url}/v1/track", json=body, timeout=10).json()["results"]
    assert result["status"] == "accepted"


def the_moment(settings: Settings) -> KeptMoment:
    with closing(MomentStore(settings)) as store:
        [found] = store.newest(state=None, moment=None, limit=9)
    return found


def a_minute_passes(settings: Settings) -> None:
    """For claims of who was killed: they run out."""
    engine = open_ledger(settings)
    with writing(engine) as connection:
        connection.execute(update(moments).values(claimed_until=None))
    engine.dispose()


def eventually(found: Callable[[], Any], *, within: float = 20.0) -> Any:
    deadline = time.monotonic() + within
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return found()


def test_what_was_told_before_a_kill_is_decided_once_and_delivered_after_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as crm:
        send_to(crm, tmp_path, monkeypatch)
        for event, is_hung in (("Checkout Started", False), ("Product Added", True)):
            crm.answers[:], crm.got[:] = ["hang"] * is_hung, []
            victim = Service(settings, port=free_port())
            try:
                victim.wait_until_ready()
                tell(victim, event)
                assert not is_hung or eventually(lambda: crm.got), "killed while the receiver has it"
                kill_all(victim.process.pid)
            finally:
                victim.stop()
            a_minute_passes(settings)
            again = Service(settings, port=free_port())
            try:
                again.wait_until_ready()
                assert eventually(lambda: the_moment(settings).state == "delivered"), the_moment(settings)
                metrics = httpx.get(f"{again.url}/metrics").text
            finally:
                again.stop()
            kept = the_moment(settings)
            assert 'nextmove_moment_deliveries_total{result="delivered",target="crm"} 1.0' in metrics
            assert {got["moment_id"] for got in crm.got} == {kept.moment_id}
            assert len(crm.got) == 1 + is_hung
            assert {got["decision"]["decision_id"] for got in crm.got} == {kept.decision_id}
            with closing(LedgerReader(settings)) as reader:
                decided = [
                    each.decision_id for each in reader.decisions(settings.domain) if "moment" in each.decision_id
                ]
            assert decided.count(kept.decision_id) == 1
            engine = open_ledger(settings)
            with writing(engine) as connection:
                connection.execute(moments.delete())
            engine.dispose()


def test_two_workers_deliver_what_one_of_them_was_told_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as crm:
        send_to(crm, tmp_path, monkeypatch)
        pair = Service(settings, port=free_port(), workers=2)
        try:
            pair.wait_until_ready()
            batch = [
                {"type": "track", "userId": f"c-{n:05d}", "event": "Product Added", "messageId": f"m-{n}"}
                for n in range(60)
            ]
            httpx.post(f"{pair.url}/v1/batch", json={"batch": batch}, timeout=10).raise_for_status()

            def open_ones() -> list[KeptMoment]:
                with closing(MomentStore(settings)) as store:
                    return [
                        each
                        for each in store.newest(state=None, moment=None, limit=99)
                        if each.state in ("waiting", "decided")
                    ]

            assert eventually(lambda: len(crm.got) > 20 and not open_ones())
        finally:
            pair.stop()
        ids = [got["moment_id"] for got in crm.got]
        assert len(ids) == len(set(ids)) > 20
