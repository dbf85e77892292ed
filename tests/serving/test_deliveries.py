"""Moments to real receivers on loopback: what hangs holds up nobody, what fails is sent again."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from decisioning.event_content import Source, ToWebhook
from serving.adapters.webhooks import SignedWebhooks
from serving.deliveries import PLACES
from serving.events import Reported
from storage.settings import Settings
from storage.webhook_targets import WebhookTarget
from tests.builders import moment, placement, release, request
from tests.serving.moments import ACTIONS, MomentShop
from tests.serving.receivers import Receiver, receiver
from tests.storage.kept import event

DAY = timedelta(days=1)


@contextmanager
def shop_with(folder: Path, total_seconds: float = 15.0, **targets: WebhookTarget) -> Iterator[MomentShop]:
    """A shop with a moment for each target, of the event that has its name."""
    patient = (placement("newsletter", channel="email", slots=1, shown_by="sent", time_out=7 * DAY),)
    moments = tuple(
        moment(
            name, event=f"{name}_asked", delay=timedelta(0), unless=(), deliver=ToWebhook(webhook=name), expires=7 * DAY
        )
        for name in targets
    )
    sources = (Source(id="any", events={name: f"{name}_asked" for name in targets}),)
    settings = Settings(home=folder / "home", domain="shop")
    webhooks = SignedWebhooks(targets, total_seconds=total_seconds)
    shop = release(*ACTIONS, moments=moments, placements=patient, sources=sources)
    with MomentShop(settings, webhooks=webhooks, shop=shop) as opened:
        try:
            yield opened
        finally:
            opened.run(opened.deliveries.cancel())
            opened.run(webhooks.close())


def ask(shop: MomentShop, target: str, count: int = 1) -> None:
    customers = [f"{target}-{number}" for number in range(count)]
    for customer_id in customers:
        shop.consent(customer_id)
    shop.told(*(event(f"{c}/1", name=f"{target}_asked", customer_id=c) for c in customers))


def test_what_was_answered_with_500_arrives_the_next_time(tmp_path: Path) -> None:
    with receiver(500) as crm, shop_with(tmp_path, crm=crm.target()) as shop:
        ask(shop, "crm")
        shop.turn()
        [kept] = shop.all
        assert (kept.state, kept.attempts) == ("decided", 1)
        shop.now = kept.next_at
        shop.turn()
        assert shop.states == [("delivered", None)]
        assert [got["moment_id"] for got in crm.got] == [kept.moment_id] * 2
        assert crm.got[0] == crm.got[1]
        assert [headers["webhook-id"] for headers in crm.headers] == [kept.moment_id] * 2


@pytest.mark.parametrize("answer", ["close", "hang", (302, {"location": "/elsewhere"}), (503, {"retry-after": "7200"})])
def test_whatever_goes_wrong_is_tried_again(tmp_path: Path, answer: Any) -> None:
    with receiver(answer) as crm, shop_with(tmp_path, total_seconds=0.5, crm=crm.target()) as shop:
        ask(shop, "crm")
        shop.turn()
        [kept] = shop.all
        assert kept.attempts == 1
        if isinstance(answer, tuple) and answer[0] == 503:
            assert kept.next_at == shop.now + timedelta(hours=2)
        shop.now = kept.next_at
        shop.turn()
        assert shop.states == [("delivered", None)]


def test_a_private_address_is_a_failure_like_any_other(tmp_path: Path) -> None:
    with receiver() as crm, shop_with(tmp_path, crm=crm.target(allow_private=False)) as shop:
        ask(shop, "crm")
        shop.turn()
        assert [(each.state, each.attempts) for each in shop.all] == [("decided", 1)]
        assert crm.got == []


def test_a_receiver_that_hangs_holds_up_no_other_and_no_decision(tmp_path: Path) -> None:
    with (
        receiver(*["hang"] * 50) as slow,
        receiver() as crm,
        shop_with(tmp_path, slow=slow.target(), crm=crm.target()) as shop,
    ):
        ask(shop, "slow", 20)
        ask(shop, "crm", 20)

        async def go_on() -> None:
            await shop.worker.turn(await shop.engine.moments_due.wait(seconds=0))
            while len(crm.got) < 20:
                await asyncio.sleep(0.01)
            await shop.engine.decide(request(placement="newsletter"), now=shop.now)

        shop.run(asyncio.wait_for(go_on(), 10))  # less than the receiver hangs
        assert len(slow.got) == PLACES, "no more at a time"
        assert sorted({state for state, _ in shop.states}) == ["decided", "delivered"]


def test_what_is_let_go_at_the_end_is_sent_by_whoever_is_next(tmp_path: Path) -> None:
    with receiver("hang") as crm, shop_with(tmp_path, crm=crm.target()) as shop:
        ask(shop, "crm")

        async def stopped() -> None:
            await shop.worker.turn(await shop.engine.moments_due.wait(seconds=0))
            while not crm.got:
                await asyncio.sleep(0.01)
            await shop.worker.stop()

        shop.run(asyncio.wait_for(stopped(), 20))
        shop.restart()
        shop.now += timedelta(minutes=1)
        shop.turn()
        assert shop.states == [("delivered", None)]
        assert [got["moment_id"] for got in crm.got] == [shop.all[0].moment_id] * 2


def test_the_task_in_the_background_decides_and_sends_by_itself_and_ends(tmp_path: Path) -> None:
    with receiver() as crm, shop_with(tmp_path, crm=crm.target()) as shop:

        async def served(running: Receiver) -> None:
            shop.worker.start()
            await asyncio.sleep(0)
            told = event("crm-0/1", name="crm_asked", customer_id="crm-0")
            await shop.engine.record_events([Reported(told, "same")])
            while not running.got:
                await asyncio.sleep(0.01)
            await shop.worker.stop()

        shop.consent("crm-0")
        shop.run(asyncio.wait_for(served(crm), 20))
