"""Settings alone switch a store; what is read stays the same."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from nextmove import steps
from serving.adapters.feast_features import FeastFeatures
from storage.feature_store import open_feature_store
from storage.settings import Settings
from training.domains.simulated import Simulated

REDIS_URL = "redis://127.0.0.1:6379/15"


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A database of the local Redis that nobody uses, left as it was found."""
    client = redis.Redis.from_url(REDIS_URL)
    try:
        taken = client.dbsize()
    except redis.ConnectionError as error:
        if os.environ.get("NEXTMOVE_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"Redis on localhost:6379 cannot be used: {error}")
    assert not taken, f"{REDIS_URL} is in use"
    yield REDIS_URL
    client.flushdb()


@pytest.mark.services
def test_features_are_the_same_from_redis_as_from_sqlite(
    redis_url: str, shop_settings: Settings, small_world: Simulated, tmp_path: Path
) -> None:
    elsewhere = replace(shop_settings, home=tmp_path / "redis", online_store="redis", redis_url=redis_url)
    steps.open_home(elsewhere)
    steps.ingest_domain(elsewhere, small_world, now=datetime.now(UTC), progress=lambda _: None)
    from_redis = FeastFeatures(open_feature_store(elsewhere), "simulated")
    from_sqlite = FeastFeatures(open_feature_store(shop_settings), "simulated")
    for customer in small_world.world.customers.ids[:20]:
        assert asyncio.run(from_redis.read(customer)) == asyncio.run(from_sqlite.read(customer))
    assert asyncio.run(from_redis.read("nobody")) is None
    assert redis.Redis.from_url(redis_url).dbsize() > 0
