"""A running service whose first key is made, used and revoked beside it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import bentoml
import httpx
import pytest
from sqlalchemy import delete

from decisioning.errors import SetupError
from nextmove.quickstart import _own_key
from nextmove.serve import Service, check_address
from storage.keys import KeyStore
from storage.ledger.database import open_ledger, writing
from storage.ledger.tables import keys
from storage.settings import Settings
from tests.nextmove.conftest import free_port
from tests.nextmove.test_service import FOLLOWS, eventually

ASK = {"customer_id": "c-00001", "placement": "home_hero"}


@pytest.fixture
def store(shop_settings: Settings) -> Iterator[KeyStore]:
    """The shop's keys; afterwards it never had any, since other tests call it without."""
    with closing(KeyStore(shop_settings)) as opened:
        yield opened
    engine = open_ledger(shop_settings)
    with writing(engine) as connection:
        connection.execute(delete(keys))
    engine.dispose()


def status(service: Service, token: str | None) -> int:
    headers = {} if token is None else {"X-API-Key": token}
    return httpx.post(f"{service.url}/v1/decisions", json=ASK, headers=headers, timeout=10).status_code


def test_keys_count_within_a_poll_for_our_routes_and_for_bentoml_s(shop_settings: Settings, store: KeyStore) -> None:
    service = Service(shop_settings, port=free_port())
    try:
        assert service.wait_until_ready()["access"] == "loopback"
        assert status(service, None) == 200

        key, token = store.create("shop", scopes=("decide",), now=datetime.now(UTC), actor="test")
        assert eventually(lambda: status(service, None) == 401, within=FOLLOWS)
        assert httpx.get(f"{service.url}/readyz").json()["access"] == "authenticated"
        assert status(service, token) == 200
        body = {"request": ASK}
        assert httpx.post(f"{service.url}/decide", json=body).status_code == 401
        assert httpx.post(f"{service.url}/decide", json=body, headers={"X-API-Key": token}).status_code == 200
        with bentoml.SyncHTTPClient(service.url, token=token) as client:
            assert client.decide(request=ASK)["reason"] == "RANKED"
            with pytest.raises(Exception, match="Authorization error"):  # BentoML says no more of a 403
                client.decide(request=ASK | {"now": "2026-03-02T12:00:00Z"})

        store.revoke(key.key_id, now=datetime.now(UTC), actor="test")
        assert eventually(lambda: status(service, token) == 401, within=FOLLOWS)
        assert status(service, None) == 401
    finally:
        service.stop()
    assert token.encode() not in service.log_path.read_bytes()


def test_the_quickstart_makes_a_key_for_its_check_where_callers_need_one(
    shop_settings: Settings, store: KeyStore
) -> None:
    with _own_key(shop_settings) as headers:
        assert headers == {}
    store.create("shop", scopes=("decide",), now=datetime.now(UTC), actor="test")
    with _own_key(shop_settings) as headers:
        service = Service(shop_settings, port=free_port())
        try:
            service.wait_until_ready()
            assert status(service, headers["X-API-Key"]) == 200
        finally:
            service.stop()
    assert [key.revoked_at is None for key in store.all()] == [True, False]


def test_another_address_is_served_once_there_is_a_key_or_an_issuer(shop_settings: Settings, store: KeyStore) -> None:
    with pytest.raises(SetupError, match="nextmove keys create"):
        check_address(shop_settings, "0.0.0.0", free_port())
    issuer = Settings(home=shop_settings.home, jwt_issuer="i", jwt_audience="a", jwt_jwks="keys.json")
    check_address(issuer, "0.0.0.0", free_port())
    store.create("shop", scopes=("decide",), now=datetime.now(UTC), actor="test")
    check_address(shop_settings, "0.0.0.0", free_port())
