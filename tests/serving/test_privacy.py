"""One view of a customer, all that is held, and erasure, over HTTP and real stores."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from decisioning.errors import StoreError
from serving.engine import DrawKey, Engine
from serving.erasures import Erasures
from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from serving.privacy import Privacy
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.database import open_ledger
from storage.ledger.writer import Ledger
from storage.privacy import erasure
from storage.privacy.erasure import GRACE, erasing_alone
from storage.settings import Settings
from tests.builders import content
from tests.fakes import FakeFeatures, FakeScorer
from tests.serving.test_callers import SECRET, callers_with, key

MARKETS = {BLUEPRINT: content(), "de": content(market="de"), "ch": content(market="ch")}
KEYS = (
    key("admin", scopes=("admin",)),
    key("agent", scopes=("agent",)),
    key("swiss", scopes=("admin",), market="ch"),
    key("site", scopes=("decide", "ingest")),
)


class Site:
    """The routes over stores of their own."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, domain="shop")
        self.ledger = Ledger(self.settings)
        self.hot_state = open_hot_state(self.settings, now=datetime.now(UTC))
        self.features = FakeFeatures({"c-1": {"age": 41.0, "city": "ulm"}})
        self.engine = Engine(
            release=Release(MARKETS, version="sha256:test"),
            features=self.features,
            hot_state=self.hot_state,
            ledger=self.ledger,
            scorer=FakeScorer(),
            draw_key=DrawKey(b"0123456789abcdef"),
        )
        self.database = open_ledger(self.settings)
        self.erasures = Erasures(self.settings, self.database)
        self.woken = 0
        privacy = Privacy(
            self.settings, self.database, features=self.features, hot_state=self.hot_state, wake=self.wake
        )
        metrics = Metrics(lambda: self.engine, hot_state_lost=lambda: False)
        routes = Routes(lambda: self.engine, metrics, privacy=lambda: privacy)
        self.client = TestClient(create_app(routes, metrics, callers_with(*KEYS)))

    def wake(self) -> None:
        self.woken += 1

    def call(self, method: str, path: str, body: Any = None, *, by: str = "admin") -> Any:
        return self.client.request(method, f"/v1/{path}", json=body, headers={"X-API-Key": f"nm_{by}_{SECRET}"})

    def close(self) -> None:
        self.hot_state.close()
        self.ledger.close()
        self.database.dispose()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    opened = Site(tmp_path / "home")
    yield opened
    opened.close()


def decide(site: Site, customer_id: str = "c-1", **fields: Any) -> dict[str, Any]:
    body = {"customer_id": customer_id, "placement": "home_hero", **fields}
    answer: dict[str, Any] = site.call("POST", "decisions", body, by="site").json()
    return answer


def live(site: Site) -> dict[str, Any]:
    """A customer with a visitor, a consent, a purchase and two decisions, of which the German one is clicked on."""
    said = {"purpose": "marketing", "channel": "email", "granted": True, "source": "sign-up", "legal_basis": "6(1)(a)"}
    site.call("PUT", "customers/c-1/consent", said)
    site.call("POST", "identify", {"userId": "c-1", "anonymousId": "v-1", "messageId": "m-1"}, by="site")
    bought = {"event": "purchase", "properties": {"product_id": "shoes"}}
    site.call("POST", "track", {"userId": "c-1", "messageId": "m-2", **bought}, by="site")
    decide(site, market="ch")
    german = decide(site, market="de")
    outcome = {"decision_id": german["decision_id"], "type": "click", "action_id": german["actions"][0]["action_id"]}
    site.call("POST", "outcomes", outcome, by="site")
    decide(site, "c-2")
    return german


def erase(site: Site, *, by: str = "admin") -> str:
    answer = site.call("DELETE", "customers/c-1", by=by)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    request_id: str = answer.json()["request_id"]
    return request_id


def test_a_view_says_who_a_customer_is_and_what_was_decided(site: Site) -> None:
    german = live(site)
    view = site.call("GET", "customers/c-1", by="agent").json()
    assert set(view["ids"]) == {"c-1", "anonymous:v-1"}
    assert (view["features"], view["features_as_of"]) == ({"age": 41.0, "city": "ulm"}, "2026-03-01T00:00:00Z")
    [word] = view["consents"]
    assert (word["granted"], word["source"], word["legal_basis"]) == (True, "sign-up", "6(1)(a)")
    assert [purchase["product"] for purchase in view["purchases"]] == ["shoes"]
    assert [event["name"] for event in view["events"]] == ["purchase", "identify"]
    assert [decision["market"] for decision in view["decisions"]] == ["de", "ch"]
    newest = view["decisions"][0]
    assert newest["decision_id"] == german["decision_id"]
    assert [outcome["type"] for outcome in newest["outcomes"]] == ["click"]
    assert newest["actions"] == [action["action_id"] for action in german["actions"]]
    assert {contact["decision_id"] for contact in view["contacts"]} <= {
        each["decision_id"] for each in view["decisions"]
    }
    assert "c-2" not in json.dumps(view)


def test_the_view_by_another_id_is_of_the_same_person(site: Site) -> None:
    live(site)
    view = site.call("GET", "customers/anonymous:v-1").json()
    assert set(view["ids"]) == {"c-1", "anonymous:v-1"}
    assert len(view["decisions"]) == 2


def test_the_last_word_on_a_consent_is_shown(site: Site) -> None:
    live(site)
    site.call("PUT", "customers/c-1/consent", {"purpose": "marketing", "channel": "email", "granted": False})
    [word] = site.call("GET", "customers/c-1").json()["consents"]
    assert not word["granted"]


def test_a_key_of_a_market_sees_what_was_decided_there(site: Site) -> None:
    live(site)
    view = site.call("GET", "customers/c-1", by="swiss").json()
    assert [decision["market"] for decision in view["decisions"]] == ["ch"]
    assert {contact["decision_id"] for contact in view["contacts"]} <= {
        each["decision_id"] for each in view["decisions"]
    }
    for method, path in (("DELETE", "customers/c-1"), ("GET", "customers/c-1/export")):
        assert site.call(method, path, by="swiss").status_code == 403, "a person is one in all markets"


def test_who_is_not_known_has_no_view_and_no_export(site: Site) -> None:
    live(site)
    for path in ("customers/c-9", "customers/c-9/export", "privacy/requests/none"):
        assert site.call("GET", path).status_code == 404, path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "customers/c-1", {"admin", "agent", "swiss"}),
        ("GET", "customers/c-1/export", {"admin"}),
        ("DELETE", "customers/c-1", {"admin"}),
        ("GET", "privacy/requests/none", {"admin", "swiss"}),
    ],
)
def test_only_who_may_is_answered(site: Site, method: str, path: str, allowed: set[str]) -> None:
    live(site)
    answered = {each.key_id for each in KEYS if site.call(method, path, by=each.key_id).status_code != 403}
    assert answered == allowed


def test_an_export_has_all_that_is_held_and_nothing_of_others(site: Site) -> None:
    german = live(site)
    answer = site.call("GET", "customers/c-1/export")
    assert answer.headers["content-type"] == "application/json"
    parts = {part["name"]: part["items"] for part in answer.json()["parts"]}
    assert {"ledger.decisions", "ledger.outcomes", "ledger.consents", "ledger.events"} <= parts.keys()
    assert german["decision_id"] in [item["decision_id"] for item in parts["ledger.decisions"]]
    assert len(parts["ledger.decisions"]) == 2
    assert len(parts["ledger.outcomes"]) == 1
    assert "c-2" not in answer.text


def test_a_person_is_erased_at_the_next_call_by_every_id(site: Site) -> None:
    german = live(site)
    request_id = erase(site)
    assert site.woken == 1
    assert site.call("GET", "customers/c-1").status_code == 404
    for named in ({"customer_id": "c-1"}, {"anonymous_id": "v-1"}):
        answer = site.call("POST", "decisions", {"placement": "home_hero", **named}, by="site").json()
        assert answer["reason"] == "FALLBACK_ERASED"
        assert answer["actions"]
        record = site.call("GET", f"decisions/{answer['decision_id']}").json()["record"]
        assert not {"c-1", "anonymous:v-1", "v-1"} & {record["customer_id"], *map(str, record["request"].values())}
    late = site.call("POST", "track", {"userId": "c-1", "messageId": "m-3", "event": "purchase"}, by="site").json()
    assert late["results"][0]["status"] == "ignored"
    said = {"purpose": "marketing", "channel": "email", "granted": True}
    assert site.call("PUT", "customers/c-1/consent", said).json()["status"] == "ignored"
    assert site.call("PUT", "customers/c-1/preferences", {}).json()["status"] == "ignored"

    now = datetime.now(UTC)
    site.erasures.check(now=now)
    assert site.call("GET", f"privacy/requests/{request_id}").json()["status"] == "pending"
    site.erasures.check(now=now + GRACE)
    done = site.call("GET", f"privacy/requests/{request_id}").json()
    assert (done["status"], done["counts"]["decisions"], done["problem"]) == ("done", 2, None)
    assert site.call("GET", f"decisions/{german['decision_id']}").status_code == 404
    told = site.call("POST", "outcomes", {"decision_id": german["decision_id"], "type": "click"}, by="site").json()
    assert told["status"] == "ignored"
    assert site.call("GET", "customers/c-1/export").status_code == 404


def test_an_unsubscribe_of_an_erased_person_keeps_nothing(site: Site) -> None:
    live(site)
    erase(site)
    link = site.engine.links.path("c-1", "email")
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = site.client.post(link, content="List-Unsubscribe=One-Click", headers=form)
    assert answer.status_code == 200
    now = datetime.now(UTC)
    site.erasures.check(now=now)
    site.erasures.check(now=now + GRACE)
    assert b"c-1" not in b"".join(path.read_bytes() for path in site.settings.home.glob("*.db*") if path.stat().st_size)


def test_one_process_erases_at_a_time(site: Site) -> None:
    live(site)
    request_id = erase(site)
    with erasing_alone(site.settings, wait=True):
        site.erasures.check(now=datetime.now(UTC))
    assert site.call("GET", f"privacy/requests/{request_id}").json()["counts"] == {}
    site.erasures.check(now=datetime.now(UTC))
    assert site.call("GET", f"privacy/requests/{request_id}").json()["counts"] != {}


def test_what_is_in_the_way_is_said_and_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    live(site)
    request_id = erase(site)

    def broken(*_: object, **__: object) -> int:
        raise StoreError("Redis is away")

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "erase_hot", broken)
        with pytest.raises(StoreError):
            site.erasures.check(now=datetime.now(UTC))
    assert site.call("GET", f"privacy/requests/{request_id}").json()["problem"] == "Redis is away"
    now = datetime.now(UTC)
    for _ in range(2):
        site.erasures.check(now=now)
        now += GRACE
    assert site.call("GET", f"privacy/requests/{request_id}").json()["problem"] is None


def test_the_thread_does_what_is_asked_and_ends_when_told(site: Site) -> None:
    live(site)
    site.erasures.start()
    request_id = erase(site)
    site.erasures.wake()

    def swept() -> bool:
        return bool(site.call("GET", f"privacy/requests/{request_id}").json()["counts"])

    async def until_swept() -> None:
        async with asyncio.timeout(10):
            while not swept():
                await asyncio.sleep(0.02)

    asyncio.run(until_swept())
    site.erasures.stop()
    assert site.erasures.problem is None
    assert timedelta(seconds=30) <= GRACE, "a call of the service may take as long"
