"""The event routes over HTTP: the Segment specification's clients work, the bad are named, the good are kept."""

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from decisioning.errors import RequestError
from decisioning.event_content import Source
from decisioning.events import EventRecord
from decisioning.pseudonyms import Pseudonyms
from serving.events import translated_event
from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from serving.http.segment import Sender, batch_call, single_call
from tests.builders import NOW, catalog, content
from tests.serving.test_callers import SECRET, basic, callers_with, key
from tests.serving.test_engine import Shop

BOUGHT = {"event": "Order Completed", "properties": {"revenue": 20.0, "products": [{"product_id": "sofa"}]}}


@pytest.fixture
def shop() -> Shop:
    return Shop(catalog(sources=(Source(id="local", market="de", events={"sale": "purchase"}, ignored=("ping",)),)))


@pytest.fixture
def client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    return TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with()))


def sent(client: TestClient, path: str, body: Any, **headers: str) -> list[tuple[str, str | None]]:
    """Status and the problem's code of each item."""
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json", **headers})
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    return [(each["status"], each.get("problem", {}).get("code")) for each in answer.json()["results"]]


def kept(shop: Shop) -> list[EventRecord]:
    return [event for event, _ in shop.ledger.events.values()]


def test_a_purchase_is_kept_and_hot_state_knows_of_it(client: TestClient, shop: Shop) -> None:
    assert sent(client, "/v1/track", {"userId": "c-1", "messageId": "m-1", **BOUGHT}) == [("accepted", None)]
    [event] = kept(shop)
    assert (event.event_id, event.name, event.market) == ("local/m-1", "purchase", "de")
    assert event.properties["value"] == 20.0
    [happened] = shop.hot_state.happened
    assert (happened.unit, happened.name, happened.products) == ("c-1", "purchase", ("sofa",))


def test_the_same_message_is_one_event(client: TestClient, shop: Shop) -> None:
    body = {"userId": "c-1", "messageId": "m-1", **BOUGHT}
    assert sent(client, "/v1/track", body) == [("accepted", None)]
    assert sent(client, "/v1/track", body) == [("duplicate", None)]
    assert sent(client, "/v1/track", {**body, "userId": "c-2"}) == [("duplicate", None)]
    assert len(kept(shop)) == 1
    assert {done.unit for done in shop.hot_state.happened} == {"c-1"}, "what the ledger lacks must not count"


def test_one_bad_item_among_many_costs_nothing_but_itself(client: TestClient, shop: Shop) -> None:
    good = [{"type": "track", "userId": f"c-{n}", "messageId": f"m-{n}", **BOUGHT} for n in range(50)]
    poisoned: list[Any] = [*good[:25], {"type": "track", "event": 7, "userId": "c"}, *good[25:]]
    results = sent(client, "/v1/batch", {"batch": poisoned})
    assert results[25] == ("rejected", "invalid_request")
    assert [status for status, _ in results].count("accepted") == len(kept(shop)) == 50


@pytest.mark.parametrize(
    ("item", "code", "where"),
    [
        ({"type": "track", "event": "x"}, "no_user_anon_id", "batch[0]"),
        ({"type": "track", "event": "x", "userId": ""}, "no_user_anon_id", "batch[0]"),
        ({"type": "track", "userId": "c"}, "invalid_request", "batch[0].event"),
        ({"type": "track", "userId": "c", "event": " !"}, "invalid_request", "batch[0].event"),
        ({"type": "group", "userId": "c"}, "invalid_request", "batch[0].groupId"),
        ({"type": "alias", "userId": "c"}, "invalid_request", "batch[0].previousId"),
        ({"type": "identity", "userId": "c"}, "invalid_request", "batch[0].type"),
        ({"userId": "c", "event": "x"}, "invalid_request", "batch[0].type"),
        ({"type": "page", "userId": "c" * 257}, "invalid_request", "batch[0].userId"),
        ({"type": "page", "userId": "c\n"}, "invalid_request", "batch[0].userId"),
        ({"type": "page", "userId": "c", "messageId": "m" * 257}, "invalid_request", "batch[0].messageId"),
        ({"type": "page", "userId": "c", "timestamp": "soon"}, "invalid_request", "batch[0].timestamp"),
        ({"type": "page", "userId": "c", "timestamp": "2099-01-01T00:00:00Z"}, "invalid_request", "batch[0].timestamp"),
        ({"type": "page", "userId": "c", "timestamp": "1999-12-31T00:00:00Z"}, "invalid_request", "batch[0].timestamp"),
        ({"type": "page", "userId": "c", "properties": {"x": "y" * 32 * 1024}}, "body_too_large", None),
        ("page", "invalid_request", "batch[0]"),
    ],
)
def test_what_is_wrong_with_an_item_is_named_with_its_place(
    client: TestClient, shop: Shop, item: Any, code: str, where: str | None
) -> None:
    answer = client.post("/v1/batch", json={"batch": [item]})
    [result] = answer.json()["results"]
    assert (answer.status_code, result["status"], result["problem"]["code"]) == (200, "rejected", code)
    assert result["problem"].get("where") == where
    assert not kept(shop)


def test_a_batch_beyond_its_number_keeps_what_came_first(client: TestClient, shop: Shop) -> None:
    batch = [{"type": "page", "userId": "c", "messageId": f"m-{n}"} for n in range(2501)]
    results = sent(client, "/v1/batch", {"batch": batch})
    assert results[-1] == ("rejected", "too_many_events")
    assert len(kept(shop)) == 2500


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "malformed_json"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"batch": [' + b'"' + b"x" * 500 * 1024 + b'"]}', "body_too_large"),
    ],
)
def test_a_body_of_which_nothing_can_be_used_is_400(client: TestClient, content: bytes, code: str) -> None:
    answer = client.post("/v1/batch", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_single_call_has_the_limit_of_an_item(client: TestClient) -> None:
    body = {"userId": "c", "event": "x", "properties": {"x": "y" * 32 * 1024}}
    assert client.post("/v1/track", json=body).status_code == 400


def test_compressed_bodies_are_read_and_bombs_are_not(client: TestClient, shop: Shop) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps({"batch": [{"type": "page", "userId": "c"}]}).encode())
    assert client.post("/v1/batch", content=body, headers=headers).status_code == 200
    bomb = gzip.compress(b" " * 50_000_000)
    assert client.post("/v1/batch", content=bomb, headers=headers).json()["code"] == "body_too_large"
    assert client.post("/v1/batch", content=b"{}", headers=headers).json()["code"] == "malformed_json"
    assert len(kept(shop)) == 1


def test_what_a_source_does_not_want_kept_is_ignored(client: TestClient, shop: Shop) -> None:
    batch = [{"type": "track", "userId": "c", "event": name} for name in ("ping", "sale", "Who knows")]
    assert sent(client, "/v1/batch", {"batch": batch}) == [("ignored", None), ("accepted", None), ("accepted", None)]
    assert [event.name for event in kept(shop)] == ["purchase", "who_knows"]
    assert "nextmove_events_unmapped_total 1.0" in client.get("/metrics").text


def test_nothing_is_promised_that_hot_state_or_the_ledger_did_not_take(client: TestClient, shop: Shop) -> None:
    body = {"userId": "c-1", "messageId": "m-1", **BOUGHT}
    shop.hot_state.down = True
    assert client.post("/v1/track", json=body).status_code == 503
    shop.hot_state.down = False
    assert sent(client, "/v1/track", body) == [("duplicate", None)]
    assert [happened.unit for happened in shop.hot_state.happened] == ["c-1"], "told again, it counts"
    shop.ledger.down = True
    assert client.post("/v1/track", json={**body, "messageId": "m-2"}).status_code == 503


def only(content: Any, *, now: datetime = NOW) -> EventRecord:
    [item] = batch_call(json.dumps({"batch": [content]}).encode(), Sender("s"), now=now).items
    assert not isinstance(item, RequestError), item
    return item.event


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def test_time_is_the_clients_corrected_by_its_clock() -> None:
    hour, year = timedelta(hours=1), timedelta(days=365)
    page = {"type": "page", "userId": "c"}
    assert only(page).occurred_at == NOW
    assert only({**page, "timestamp": at(NOW - hour)}).occurred_at == NOW - hour
    # Its clock is a year ahead; the event was an hour before it was sent.
    ahead = {**page, "timestamp": at(NOW + year - hour), "sentAt": at(NOW + year)}
    assert only(ahead).occurred_at == NOW - hour
    assert only({**page, "timestamp": "2025-01-01T01:00:00+01:00"}).occurred_at == datetime(2025, 1, 1, tzinfo=UTC)
    assert only({**page, "timestamp": "2025-01-01T00:00:00"}).occurred_at == datetime(2025, 1, 1, tzinfo=UTC)
    assert only({**page, "timestamp": at(NOW + timedelta(seconds=1))}).occurred_at == NOW


def test_of_the_context_only_what_is_used_is_kept() -> None:
    said = {"ip": "10.0.0.7", "userAgent": "x", "locale": "de-AT", "page": {"path": "/cart"}}
    [item] = batch_call(
        json.dumps(
            {
                "context": {"timezone": "UTC", "locale": "en"},
                "batch": [{"type": "page", "userId": "c", "context": said}],
            }
        ).encode(),
        Sender("s"),
        now=NOW,
    ).items
    assert not isinstance(item, RequestError)
    assert item.event.context == {"locale": "de-AT", "page": {"path": "/cart"}, "timezone": "UTC"}


def test_ids_may_be_numbers_and_both_may_be_given() -> None:
    event = only({"type": "identify", "userId": 7, "anonymousId": "v", "traits": {"city": "Ulm"}})
    assert (event.customer_id, event.anonymous_id, event.unit, event.properties) == ("7", "v", "7", {"city": "Ulm"})
    assert only({"type": "page", "anonymousId": "v", "name": "Home"}).unit == "anonymous:v"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    ["type", "userId", "anonymousId", "event", "messageId", "timestamp", "sentAt", "properties", "traits", "context",
     "groupId", "previousId", "name"]
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.dictionaries(fields, json_values | st.sampled_from(["track", "page", "2026-03-01T00:00:00Z"]), max_size=8))
def test_whatever_is_sent_is_an_event_or_a_sentence(item: dict[str, Any]) -> None:
    [found] = batch_call(json.dumps({"batch": [item]}).encode(), Sender("s"), now=NOW).items
    assert isinstance(found, RequestError) or found.event.event_id.startswith("s/")
    with suppress(RequestError):
        single_call(json.dumps(item).encode(), "track", Sender("s"), now=NOW)


BASIC_SHOP = "Basic c2hvcDo="


def test_without_keys_the_write_key_names_the_source(client: TestClient, shop: Shop) -> None:
    page = {"userId": "c", "name": "Home"}
    sent(client, "/v1/page", {**page, "messageId": "m"}, authorization=BASIC_SHOP)
    sent(client, "/v1/page", {**page, "messageId": "m", "writeKey": "till"})
    sent(client, "/v1/page", {**page, "messageId": "m", "writeKey": "no/name"})
    assert list(shop.ledger.events) == ["shop/m", "till/m", "local/m"]


@pytest.fixture
def keyed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    callers = callers_with(key(scopes=("ingest",), market="de"), key("k2", scopes=("decide",)))
    return TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers))


def test_with_keys_the_key_is_the_source_wherever_the_client_puts_it(keyed: TestClient, shop: Shop) -> None:
    good = f"nm_k1_{SECRET}"
    body = {"type": "page", "userId": "c"}
    sent(keyed, "/v1/page", {**body, "messageId": "1", "writeKey": good})
    sent(keyed, "/v1/batch", {"batch": [{**body, "messageId": "2"}], "writeKey": good})
    sent(keyed, "/v1/page", {**body, "messageId": "3"}, authorization=basic(f"{good}:"))
    sent(keyed, "/v1/page", {**body, "messageId": "4", "writeKey": "ignored"}, **{"x-api-key": good})
    name = key().name
    assert list(shop.ledger.events) == [f"{name}/{number}" for number in (1, 2, 3, 4)]
    assert {event.market for event in kept(shop)} == {"de"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 401),
        ({"writeKey": "nonsense"}, 401),
        ({"writeKey": f"nm_k1_{SECRET[:-1]}x"}, 401),
        ({"writeKey": 7}, 401),
        ({"writeKey": f"nm_k2_{SECRET}"}, 403),
    ],
)
def test_who_has_no_key_for_events_tells_nothing(keyed: TestClient, shop: Shop, body: Any, status: int) -> None:
    answer = keyed.post("/v1/page", json={"userId": "c", **body})
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert not kept(shop)


def test_money_in_another_currency_is_kept_in_the_catalogue_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    shop = Shop(catalog(rates={"CHF": 1.05}, sources=(Source(id="local", currency="CHF"),)))
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    client = TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with()))
    danish = {"event": "Order Completed", "properties": {"revenue": 20.0, "currency": "DKK"}}
    for number, said in enumerate((BOUGHT, danish)):
        sent(client, "/v1/track", {"userId": "c-1", "messageId": f"m-{number}", **said})
    assert [event.properties.get("value") for event in kept(shop)] == [21.0, None]
    assert [event.properties["value_original"] for event in kept(shop)] == [20.0, 20.0]
    assert "nextmove_events_unmapped_total 1.0" in client.get("/metrics").text


def test_money_of_a_source_s_market_is_in_that_market_s_currency() -> None:
    rates = {"CHF": 1.05}
    blueprint = content(rates=rates, sources=(Source(id="till", market="ch"),))
    swiss = content(rates=rates, market="ch", market_currency="CHF")
    vocabulary = Release({BLUEPRINT: blueprint, "ch": swiss}, version="sha256:test").vocabulary
    sold = EventRecord(
        event_id="till/1", source="till", type="track", name="Order Completed", customer_id="c-1",
        properties={"total": 20.0}, occurred_at=NOW, received_at=NOW,
    )  # fmt: skip
    for source, value in (("till", 21.0), ("web", 20.0)):
        translated = translated_event(msgspec.structs.replace(sold, source=source), vocabulary, Pseudonyms(None))
        assert translated is not None
        assert translated[0].properties["value"] == value


def test_a_source_with_numbers_of_its_own_means_its_own_customers_until_an_alias_says_whom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    shop = Shop(catalog(sources=(Source(id="till", id_prefix="till-", products={"4711": "sofa"}),)))
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    keys = [key("t", name="till", scopes=("ingest",)), key("w", name="web", scopes=("ingest",))]
    client = TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with(*keys)))
    sale = {"userId": "17", "event": "Order Completed", "properties": {"product_id": "4711"}}
    for sender, path, body in (
        ("t", "/v1/track", sale),
        ("w", "/v1/track", sale),
        ("w", "/v1/alias", {"userId": "c-1", "previousId": "till-17"}),
    ):
        assert sent(client, path, body, **{"x-api-key": f"nm_{sender}_{SECRET}"}) == [("accepted", None)]
    bought = {(each.unit, each.products) for each in shop.hot_state.happened}
    assert bought == {("till-17", ("sofa",)), ("17", ("4711",))}
    assert [(event.customer_id, event.previous_id) for event in kept(shop) if event.type == "alias"] == [
        ("c-1", "till-17")
    ]
