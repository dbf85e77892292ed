"""Moments over HTTP: fetched by who delivers, in their market, and acknowledged."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import values

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from serving.http.openapi import openapi_document
from storage.settings import Settings
from tests.builders import content, moment
from tests.serving.moments import ACTIONS, MomentShop
from tests.serving.test_callers import SECRET, callers_with, key
from tests.serving.test_moments import HOUR

KEYS = (
    key("crm", name="the crm", scopes=("ingest",)),
    key("german", scopes=("ingest",), market="de"),
    key("page", scopes=("decide",)),
)


class MomentSite(MomentShop):
    """The shop over HTTP, in two markets; what is due is due now."""

    def __init__(self, settings: Settings) -> None:
        declared = (moment(delay=timedelta(0), expires=30 * 24 * HOUR),)
        markets = {name: content(*ACTIONS, market=name, moments=declared) for name in (BLUEPRINT, "de", "ch")}
        super().__init__(settings, shop=Release(markets, version="sha256:test"))
        self.metrics = Metrics(lambda: self.engine, hot_state_lost=lambda: False, open_moments=lambda: self.worker.open)
        routes = Routes(lambda: self.engine, self.metrics, moments=lambda: self.moments)
        self.app = create_app(routes, self.metrics, callers_with(*KEYS))

    def call(self, method: str, path: str, key_id: str = "crm", **given: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
                return await client.request(method, path, headers={"x-api-key": f"nm_{key_id}_{SECRET}"}, **given)

        return self.run(once())

    def get(self, query: str = "", key_id: str = "crm") -> list[dict[str, Any]]:
        answer = self.call("GET", f"/v1/moments{query}", key_id)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["moments"]
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MomentSite]:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    with MomentSite(Settings(home=tmp_path / "home", domain="shop")) as opened:
        opened.now = datetime.now(UTC)
        yield opened


def begin(site: MomentSite, count: int = 1, **overrides: Any) -> None:
    for number in range(count):
        site.consent(f"c-{number}")
        site.tell(event_id=f"shop/{number}", customer_id=f"c-{number}", occurred_at=site.now, **overrides)
    site.turn()


def test_a_channel_fetches_and_acknowledges(site: MomentSite) -> None:
    begin(site)
    [found] = site.get("?channel=email&limit=10")
    assert set(found) == set(openapi_document()["components"]["schemas"]["DeliveredMoment"]["properties"])
    assert site.get() == []
    path = f"/v1/moments/{found['moment_id']}/ack"
    expected = {"moment_id": found["moment_id"], "state": "delivered", "reason": None}
    assert site.call("POST", path).json() == expected
    assert site.call("POST", path, json={"status": "sent"}).json() == expected
    conflict = site.call("POST", path, json={"status": "not_sent"})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "outcome_id_reused")
    [outcome] = site.outcomes(found["decision"]["decision_id"])
    assert (outcome.type, outcome.source) == ("sent", "the crm")


def test_a_key_of_a_market_sees_its_own_alone(site: MomentSite) -> None:
    begin(site, market="ch")
    [kept] = site.all
    assert site.get(key_id="german") == []
    assert site.call("GET", "/v1/moments?market=ch", "german").status_code == 403
    assert site.call("POST", f"/v1/moments/{kept.moment_id}/ack", "german").status_code == 404
    assert site.get("?market=de") == []
    assert len(site.get("?market=ch")) == 1


def test_who_asks_for_decisions_does_not_fetch_what_others_asked_for(site: MomentSite) -> None:
    assert site.call("GET", "/v1/moments", "page").status_code == 403
    assert site.call("POST", "/v1/moments/x/ack", "page").status_code == 403


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "ten", "", "1" * 5000, "٣"])
def test_a_limit_that_is_none_is_named(site: MomentSite, limit: str) -> None:
    answer = site.call("GET", "/v1/moments", params={"limit": limit})
    assert (answer.status_code, answer.json()["where"]) == (400, "limit")


@pytest.mark.parametrize("content", [b'{"status": "maybe"}', b"{", b'{"state": "sent"}', b"[]"])
def test_an_acknowledgement_that_is_none_is_refused(site: MomentSite, content: bytes) -> None:
    begin(site)
    [found] = site.get()
    path = f"/v1/moments/{found['moment_id']}/ack"
    answer = site.call("POST", path, content=content)
    assert answer.status_code in (400, 415)
    assert site.all[0].state == "decided"


def test_what_is_not_there_is_404(site: MomentSite) -> None:
    answer = site.call("POST", "/v1/moments/nothing/ack")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_moment")


def test_the_metrics_say_how_many_are_open_and_how_long_they_wait(site: MomentSite) -> None:
    begin(site, 3)
    text = site.call("GET", "/metrics").text
    assert 'nextmove_moments_open{state="decided"} 3.0' in text
    assert 'nextmove_moments_overdue_seconds{state="decided"}' in text
