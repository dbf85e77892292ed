"""The service as a process: what callers, operators and a power cut do to it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest

from nextmove.serve import Service
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.ledger.feed_counts import FeedCounts
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from tests.nextmove.conftest import free_port, train_and_promote
from training.domains.simulated import Simulated
from training.features import declared_features
from training.rollback import rollback

README = Path(__file__).parents[2] / "README.md"
FOLLOWS = 5.0  # seconds in which a running service takes a new pointer


def ask(service: Service, **fields: Any) -> dict[str, Any]:
    body = {"customer_id": "c-00001", "placement": "home_hero"} | fields
    response = httpx.post(f"{service.url}/v1/decisions", json=body, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def eventually(holds: Any, *, within: float = FOLLOWS) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_it_is_alive_ready_and_says_what_it_serves(service: Service) -> None:
    assert httpx.get(f"{service.url}/livez").status_code == 200
    ready = httpx.get(f"{service.url}/readyz").json()
    assert ready["status"] == "ready"
    assert ready["bundle_sha256"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("DELETE", "/v1/outcomes", 405)])
def test_what_it_does_not_have_is_a_problem(service: Service, method: str, path: str, status: int) -> None:
    response = httpx.request(method, f"{service.url}{path}")
    assert (response.status_code, response.json()["status"]) == (status, status)


def test_a_known_customer_is_ranked_with_stored_features(service: Service, small_world: Simulated) -> None:
    answer = ask(service, customer_id=small_world.world.customers.ids[0])
    assert answer["reason"] == "RANKED"
    assert len(answer["actions"]) == 3
    assert len({action["action_id"] for action in answer["actions"]}) == 3
    assert answer["features_as_of"]
    record = httpx.get(f"{service.url}/v1/decisions/{answer['decision_id']}").json()["record"]
    foretold = {f"chance_of_{stage}" for stage in ("discover", "first_order", "regular", "loyal", "lapsing")}
    assert set(record["features"]) == {*declared_features("simulated").customer, *foretold}


def test_what_a_customer_says_is_true_at_the_next_decision(service: Service, small_world: Simulated) -> None:
    customer_id = small_world.world.customers.ids[0]
    word = {"purpose": "personalisation", "channel": "web"}

    def say(granted: bool) -> Any:
        body = word | {"granted": granted}
        return httpx.put(f"{service.url}/v1/customers/{customer_id}/consent", json=body, timeout=10).json()

    assert say(False)["withdrawn"] == [word]
    answer = ask(service, customer_id=customer_id)
    assert (answer["reason"], answer["features_as_of"]) == ("FALLBACK_NOT_PERSONALISED", None)
    assert answer["actions"]
    assert say(True)["withdrawn"] == []
    assert ask(service, customer_id=customer_id)["reason"] == "RANKED"
    assert ask(service, customer_id=customer_id, global_privacy_control=True)["reason"] == "FALLBACK_NOT_PERSONALISED"
    native = httpx.post(
        f"{service.url}/decide",
        json={"request": {"customer_id": customer_id, "placement": "home_hero"}},
        headers={"sec-gpc": "1"},
        timeout=10,
    )
    assert native.json()["reason"] == "FALLBACK_NOT_PERSONALISED"
    assert httpx.get(f"{service.url}/v1/unsubscribe/1.x.y").status_code == 404


def test_the_readme_s_request_is_answered_with_the_fields_it_shows(service: Service) -> None:
    text = README.read_text(encoding="utf-8")
    body = re.search(r"/v1/decisions -H .*?-d '(\{.*?\})'", text, re.DOTALL)
    shown = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert body is not None
    assert shown is not None
    answer, example = ask(service, **json.loads(body[1])), json.loads(shown[1])
    assert answer.keys() == example.keys()
    assert answer["actions"][0].keys() == example["actions"][0].keys()
    assert answer["reason"] == example["reason"]


def test_the_native_client_gets_the_same_answer(service: Service) -> None:
    with bentoml.SyncHTTPClient(service.url) as client:
        answer = client.decide(request={"customer_id": "c-00001", "placement": "home_hero", "decision_id": "native"})
    assert answer == ask(service, decision_id="native")


def test_the_native_client_cannot_send_what_json_cannot_say(service: Service) -> None:
    with bentoml.SyncHTTPClient(service.url) as client, pytest.raises(Exception, match="malformed_json"):
        client.decide(
            request={"customer_id": "c-00001", "placement": "home_hero", "context": {"cart_value": float("nan")}}
        )


def test_the_native_client_sees_a_wrong_request_as_its_own_mistake(service: Service) -> None:
    with bentoml.SyncHTTPClient(service.url) as client, pytest.raises(Exception, match="unknown_placement"):
        client.decide(request={"customer_id": "c-00001", "placement": "hero"})


def test_twenty_twins_at_once_are_one_decision(service: Service) -> None:
    async def twins() -> list[Any]:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            body = {"customer_id": "c-00002", "placement": "home_hero", "decision_id": "twins"}
            return await asyncio.gather(*(client.post("/v1/decisions", json=body) for _ in range(20)))

    answers = asyncio.run(twins())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


def test_a_promoted_model_is_taken_without_a_failed_request_and_given_back(
    service: Service, shop_settings: Settings, small_world: Simulated
) -> None:
    before = httpx.get(f"{service.url}/readyz").json()
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=service.url, timeout=10) as client:
            while not stop.is_set():
                body = {"customer_id": "c-00003", "placement": "product_page"}
                statuses.append(client.post("/v1/decisions", json=body).status_code)

    caller = threading.Thread(target=load)
    caller.start()
    try:
        trained = train_and_promote(shop_settings, small_world, seed=2)
        assert eventually(lambda: httpx.get(f"{service.url}/readyz").json()["bundle_sha256"] == trained.bundle.sha256)
        assert ask(service)["model"]["version"] == trained.version
        rollback(shop_settings, "simulated", now=datetime.now(UTC), reason="test")
        assert eventually(lambda: httpx.get(f"{service.url}/readyz").json()["bundle_sha256"] == before["bundle_sha256"])
    finally:
        stop.set()
        caller.join()
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_broken_bundle_is_not_taken(service: Service, shop_settings: Settings) -> None:
    before = httpx.get(f"{service.url}/readyz").json()
    blobs = BlobStore(shop_settings)
    good = blobs.pointer(bundle_pointer("simulated"))
    assert good is not None
    bad = blobs.put(b'{"graph_sha256": 1}')
    blobs.point(bundle_pointer("simulated"), bad, now=datetime.now(UTC), reason="test")
    try:
        assert eventually(lambda: httpx.get(f"{service.url}/readyz").json()["warnings"] != [])
        after = httpx.get(f"{service.url}/readyz").json()
        assert (after["status"], after["bundle_sha256"]) == ("ready", before["bundle_sha256"])
        assert ask(service)["reason"] == "RANKED"
    finally:
        blobs.point(bundle_pointer("simulated"), good, now=datetime.now(UTC), reason="test")
        blobs.close()
    assert eventually(lambda: httpx.get(f"{service.url}/readyz").json()["warnings"] == [])


def test_no_answered_decision_is_lost_when_the_process_is_killed(shop_settings: Settings) -> None:
    victim = Service(shop_settings, port=free_port())
    answered: list[str] = []
    try:
        victim.wait_until_ready()
        with httpx.Client(base_url=victim.url, timeout=10) as client:
            killer = threading.Timer(1.0, lambda: kill_all(victim.process.pid))
            killer.start()
            try:
                while True:
                    body = {"customer_id": "c-00004", "placement": "product_page"}
                    answered.append(client.post("/v1/decisions", json=body).json()["decision_id"])
            except httpx.HTTPError:
                pass
    finally:
        victim.stop()
    reader = LedgerReader(shop_settings)
    assert len(answered) > 20
    assert all(reader.contains(decision_id) for decision_id in answered)
    reader.close()


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(shop_settings: Settings) -> None:
    victim = Service(shop_settings, port=free_port())
    acknowledged: list[str] = []
    try:
        victim.wait_until_ready()
        with httpx.Client(base_url=victim.url, timeout=10) as client, suppress(httpx.HTTPError):
            threading.Timer(1.0, lambda: kill_all(victim.process.pid)).start()
            while True:
                first = len(acknowledged)
                ids = [f"m-{first + place}" for place in range(20)]
                batch = [{"type": "track", "userId": "c-00004", "event": "Read", "messageId": name} for name in ids]
                answer = client.post("/v1/batch", json={"batch": batch})
                assert [result["status"] for result in answer.json()["results"]] == ["accepted"] * 20
                acknowledged += ids
    finally:
        victim.stop()
    with closing(LedgerReader(shop_settings)) as reader:
        kept = {event.event_id for event in reader.events(shop_settings.domain)}
    assert len(acknowledged) > 100
    assert {f"local/{name}" for name in acknowledged} <= kept


def kill_all(pid: int) -> None:
    """The supervisor and its workers, at once, as a power cut would."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    for process in [pid, *map(int, children)]:
        os.kill(process, signal.SIGKILL)


def track(service: Service, source: str, *message_ids: str) -> None:
    batch = [{"type": "track", "userId": "c-00004", "event": "Read", "messageId": name} for name in message_ids]
    answer = httpx.post(f"{service.url}/v1/batch", json={"batch": batch, "writeKey": source}, timeout=10)
    assert [result["status"] for result in answer.json()["results"]] == ["accepted"] * len(batch)


def test_who_tells_has_an_age_in_the_metrics(service: Service) -> None:
    track(service, "clock", "tick")
    age = re.compile(r'nextmove_feed_last_event_age_seconds\{source="clock"\} (\S+)')

    def ages() -> list[str]:
        return age.findall(httpx.get(f"{service.url}/metrics").text)

    assert eventually(ages, within=15.0)
    assert 0.0 <= float(ages()[0]) < 30.0
    assert 'nextmove_feed_silent{source="clock"} 0.0' in httpx.get(f"{service.url}/metrics").text


def test_two_workers_share_what_they_know_and_end_when_asked(shop_settings: Settings) -> None:
    pair = Service(shop_settings, port=free_port(), workers=2)
    try:
        pair.wait_until_ready()
        first = ask(pair, decision_id="pair", customer_id="c-00005")
        assert all(ask(pair, decision_id="pair", customer_id="c-00005") == first for _ in range(10))
        for _ in range(10):
            ask(pair, placement="product_page")
        line = 'nextmove_decisions_total{placement="product_page",reason="RANKED"} 10.0'
        assert line in httpx.get(f"{pair.url}/metrics").text, "whichever worker is scraped answers for both"
        for number in range(20):
            track(pair, "pair", f"m-{number}")
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(15) is not None
    finally:
        pair.stop()
    with closing(FeedCounts(shop_settings)) as feeds:
        counts = feeds.read(since=datetime.now(UTC) - timedelta(hours=2), what=("received",))
    assert sum(each.count for each in counts if each.source == "pair") == 20, "both wrote down what they had counted"
