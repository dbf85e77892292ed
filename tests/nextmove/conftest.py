"""One small simulated shop, ingested, trained and promoted once, and a service over a copy of it."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nextmove import steps
from nextmove.serve import Service
from storage.settings import Settings
from training.domains.simulated import Simulated
from training.example_sources import examples_of
from training.promotion import promote
from training.training_run import TrainedModel, train


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_and_promote(settings: Settings, domain: Simulated, *, seed: int) -> TrainedModel:
    now, catalog = datetime.now(UTC), steps.released(settings).everywhere
    examples = examples_of(domain, settings, catalog, now=now)
    trained = train(examples, settings, catalog=catalog, now=now, seed=seed)
    promote(examples, settings, catalog=catalog, now=now, run_id=trained.run_id, force="a small world proves nothing")
    return trained


@pytest.fixture(scope="session")
def small_world() -> Simulated:
    return Simulated(seed=3, customers=400, decisions=6_000)


@pytest.fixture(scope="session")
def untouched_shop(tmp_path_factory: pytest.TempPathFactory, small_world: Simulated) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("shop") / "state")
    now = datetime.now(UTC)
    steps.open_home(settings)
    steps.release_catalog(settings, now=now, reason="test")
    steps.ingest_domain(settings, small_world, now=now, progress=lambda _: None)
    train_and_promote(settings, small_world, seed=1)
    return settings


@pytest.fixture(scope="module")
def shop_settings(tmp_path_factory: pytest.TempPathFactory, untouched_shop: Settings) -> Settings:
    """A copy for each file: what one file's tests leave behind must not change another's."""
    home = tmp_path_factory.mktemp("shop") / "state"
    shutil.copytree(untouched_shop.home, home)
    return replace(untouched_shop, home=home)


@pytest.fixture(scope="module")
def service(shop_settings: Settings) -> Iterator[Service]:
    running = Service(shop_settings, port=free_port())
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
