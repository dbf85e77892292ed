"""With a secret for pseudonyms, nothing that is kept names a customer as the caller does."""

from typing import Any

import msgspec
import pytest
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from decisioning.pseudonyms import Pseudonyms
from serving.engine import DrawKey, Engine
from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from tests.builders import catalog
from tests.serving.test_callers import callers_with
from tests.serving.test_engine import Shop

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
MIA, LEO = "mia@example.com", "leo@example.com"


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    shop.engine = Engine(
        release=Release({BLUEPRINT: catalog().content}, version="sha256:test"),
        features=shop.features,
        hot_state=shop.hot_state,
        ledger=shop.ledger,
        scorer=shop.scorer,
        draw_key=DrawKey(b"0123456789abcdef"),
        pseudonyms=PSEUDONYMS,
    )
    return shop


@pytest.fixture
def client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    return TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with()))


def post(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_decision_is_kept_under_the_pseudonym_and_answered_under_the_id(client: TestClient, shop: Shop) -> None:
    ask = {"customer_id": MIA, "placement": "home_hero", "decision_id": "d-1"}
    shop.features.customers = {PSEUDONYMS.of(MIA): {"age": 41.0}}
    first = post(client, "/v1/decisions", ask)
    assert (first["customer_id"], first["reason"]) == (MIA, "RANKED")
    record, _ = shop.ledger.decisions["d-1"]
    assert record.customer_id == record.request.customer_id == PSEUDONYMS.of(MIA)
    assert MIA.encode() not in msgspec.json.encode(record)
    assert post(client, "/v1/decisions", ask) == first
    several = post(client, "/v1/decisions/batch", {"requests": [ask, {"anonymous_id": LEO, "placement": "home_hero"}]})
    assert several["results"][0]["decision"] == first
    assert several["results"][1]["decision"]["anonymous_id"] == LEO


def test_who_asks_with_the_pseudonym_asks_about_the_same_person(client: TestClient, shop: Shop) -> None:
    post(client, "/v1/decisions", {"customer_id": PSEUDONYMS.of(MIA), "placement": "home_hero", "decision_id": "d-1"})
    assert shop.ledger.decisions["d-1"][0].customer_id == PSEUDONYMS.of(MIA)


def test_events_and_links_are_kept_under_pseudonyms(client: TestClient, shop: Shop) -> None:
    post(client, "/v1/alias", {"userId": MIA, "previousId": LEO})
    post(client, "/v1/track", {"anonymousId": LEO, "event": "Order Completed", "messageId": "m-1"})
    aliased, bought = [event for event, _ in shop.ledger.events.values()]
    assert (aliased.customer_id, aliased.previous_id) == (PSEUDONYMS.of(MIA), PSEUDONYMS.of(LEO))
    assert bought.unit == f"anonymous:{PSEUDONYMS.of(LEO)}"
    assert [each.unit for each in shop.hot_state.happened] == [bought.unit]


def test_consents_and_preferences_are_kept_under_the_pseudonym(client: TestClient, shop: Shop) -> None:
    said = client.put(f"/v1/customers/{MIA}/consent", json={"purpose": "marketing", "channel": "web", "granted": False})
    assert said.json()["customer_id"] == MIA
    wished = client.put(f"/v1/customers/{MIA}/preferences", json={"topics": {}})
    assert (wished.status_code, wished.json()["customer_id"]) == (200, MIA)
    assert {change.customer_id for change in shop.ledger.consents} == {PSEUDONYMS.of(MIA)}
    assert {change.customer_id for change in shop.ledger.preferences} == {PSEUDONYMS.of(MIA)}
