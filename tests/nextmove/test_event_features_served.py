"""A running service counts what it was just told, on both stores of hot state, and on every replica."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from nextmove import steps
from nextmove.serve import Service
from storage.settings import Settings
from tests.nextmove.conftest import free_port
from tests.storage.hot_stores import settings_for

CATALOG = Path(__file__).parents[2] / "catalog"
DECLARED = """\
event_features:
  - {id: orders, event: purchase, compute: count, windows: [P7D]}
  - {id: since_page, event: page, compute: recency}
"""
ACTION = """\
actions:
  - id: thanks
    name: Thanks for the second order
    group: services
    goal: sell
    owner: nadia.okafor
    approved_by: jonas.frey
    status: live
    value: 9000.0
    eligibility: "customer.orders_7d != null && customer.orders_7d >= 2.0"
    treatments: [{id: thanks_web, channel: web}]
"""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def replicas(request: pytest.FixtureRequest, shop_settings: Settings, tmp_path: Path) -> Iterator[list[Service]]:
    """One service with SQLite, two with Redis."""
    shutil.copytree(shop_settings.home, tmp_path / "home")
    shutil.copytree(CATALOG, tmp_path / "catalog")
    (tmp_path / "catalog" / "simulated" / "global" / "zz.yaml").write_text(DECLARED + ACTION)
    plain = replace(shop_settings, home=tmp_path / "home", catalog_dir=tmp_path / "catalog")
    # Long enough ago that every service would follow it.
    steps.release_catalog(plain, now=datetime.now(UTC) - timedelta(minutes=1), reason="test")
    with ExitStack() as stack:
        settings = stack.enter_context(settings_for(request.param, plain))
        services = []
        for _ in range(2 if request.param == "redis" else 1):
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("NEXTMOVE_HOT_STATE", settings.hot_state)
                environment.setenv("NEXTMOVE_REDIS_URL", settings.redis_url)
                environment.setenv("NEXTMOVE_REDIS_PREFIX", settings.redis_prefix)
                service = Service(settings, port=free_port())
            stack.callback(service.stop)
            service.wait_until_ready()
            services.append(service)
        yield services


def decided(service: Service, **who: str) -> dict[str, Any]:
    body = {"customer_id": "c-00001", "placement": "home_hero", "mode": "preview", "explain": True, **who}
    answer = httpx.post(f"{service.url}/v1/decisions", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def is_eligible(service: Service, **who: str) -> bool:
    reasons = {dropped["action_id"]: dropped["reason"] for dropped in decided(service, **who)["dropped"]}
    assert reasons.get("thanks", "ELIGIBILITY") == "ELIGIBILITY"
    return "thanks" not in reasons


def tell(service: Service, call: str, **said: Any) -> None:
    answer = httpx.post(f"{service.url}/v1/{call}", json={"userId": "c-00001", **said}, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["status"] in ("accepted", "duplicate")


def test_the_next_decision_counts_what_was_told_a_moment_ago(replicas: list[Service]) -> None:
    one, other = replicas[0], replicas[-1]
    deadline = time.monotonic() + 20
    while httpx.get(f"{one.url}/readyz").json()["warnings"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert httpx.get(f"{one.url}/readyz").json()["warnings"] == []
    bought = {"event": "Order Completed"}
    tell(one, "track", messageId="m-1", **bought)
    tell(other, "track", messageId="m-1", **bought)
    assert not is_eligible(other)
    tell(one, "track", messageId="m-2", **bought)
    assert is_eligible(other)
    assert is_eligible(one)
    # Another id of the same person, with an order of its own, and one that is told by both.
    assert not is_eligible(one, customer_id="c-00002")
    tell(one, "track", userId="c-00002", messageId="m-3", **bought)
    assert not is_eligible(other, customer_id="c-00002")
    tell(other, "alias", previousId="c-00002", messageId="m-4")
    assert is_eligible(one, customer_id="c-00002")
