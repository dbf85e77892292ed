"""One small simulated shop, ingested, trained and promoted once, and a service over a copy of it."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from nextmove import steps
from nextmove.serve import Service
from storage.settings import Settings
from training.domains.simulated import Simulated


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def small_world() -> Simulated:
    return Simulated(seed=3, customers=400, decisions=6_000)


@pytest.fixture(scope="session")
def shop_settings(tmp_path_factory: pytest.TempPathFactory, small_world: Simulated) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("shop") / "state")
    now = datetime.now(UTC)
    steps.open_home(settings)
    steps.release_catalog(settings, now=now, reason="test")
    steps.ingest_domain(settings, small_world, now=now, progress=lambda _: None)
    trained = steps.train_challenger(settings, small_world, now=now, seed=1, progress=lambda _: None)
    steps.promote_challenger(
        settings,
        small_world,
        run_id=trained.run_id,
        now=now,
        non_inferior=None,
        force="a small world proves nothing",
        progress=lambda _: None,
    )
    return settings


@pytest.fixture(scope="module")
def service(shop_settings: Settings) -> Iterator[Service]:
    running = Service(shop_settings, port=free_port())
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
