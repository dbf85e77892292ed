"""Who may do what over HTTP: this machine alone without keys, with keys each caller what theirs allows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.catalog import Release
from serving.http.app import OPEN, Routes, create_app, table
from serving.http.callers import Callers
from serving.http.guard import Guard, Readiness
from serving.http.metrics import Metrics
from serving.http.openapi import openapi_document
from storage.keys import SCOPES, ApiKey
from tests.builders import NOW, action, content, placement
from tests.serving.test_callers import SECRET, basic, callers_with, key
from tests.serving.test_engine import Shop
from tests.serving.test_http import ASK, problem
from tests.serving.tokens import token

MARKETS = {"global": content(), "de": content(market="de"), "ch": content(market="ch")}
KEYS = (
    *(key(scope, name=f"the {scope} one", scopes=(scope,)) for scope in SCOPES),
    key("german", scopes=("decide", "marketing", "admin"), market="de"),
    key("page", name="homepage", scopes=("decide",), publishable=True),
    key("gone", scopes=("admin",), revoked_at=NOW),
)


async def native(scope: Any, receive: Any, send: Any) -> None:
    """In place of BentoML's own routes: says who was let in."""
    caller = scope.get("state", {}).get("caller")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (caller.name if caller else "-").encode()})


class Site:
    """The whole HTTP side over a fake shop, as one machine or another meets it."""

    def __init__(
        self, *keys: ApiKey, tokens: bool = False, shop: Shop | None = None, origins: tuple[str, ...] = ()
    ) -> None:
        self.shop = shop or Shop()
        self.callers: Callers = callers_with(*keys, tokens=tokens)
        self.problems: list[str] = []
        self.metrics = Metrics(lambda: self.shop.engine, hot_state_lost=lambda: False)
        routes = Routes(lambda: self.shop.engine, self.metrics)
        app = create_app(routes, self.metrics, self.callers, origins=origins)

        async def either(scope: Any, receive: Any, send: Any) -> None:
            ours = scope["path"].startswith(("/v1/", "/ofrep/")) or scope["path"] == "/metrics"
            await (app if ours else native)(scope, receive, send)

        self.app = Guard(either, readiness=self.readiness, callers=self.callers, metrics=self.metrics)

    def readiness(self) -> Readiness:
        access = "authenticated" if self.callers.must_say else "loopback"
        return Readiness(
            status="x", access=access, model="7", bundle_sha256="1", catalog_version="s", problems=self.problems
        )

    def call(
        self, method: str, path: str, key_id: str | None = None, *, client: str = "203.0.113.9", **call: Any
    ) -> httpx.Response:
        headers = call.pop("headers", {}) | ({} if key_id is None else {"x-api-key": f"nm_{key_id}_{SECRET}"})
        host = TestClient(self.app, base_url="http://shop.example", client=(client, 5000))
        return host.request(method, path, headers=headers, **call)

    def decide(self, key_id: str | None, **fields: Any) -> httpx.Response:
        return self.call("POST", "/v1/decisions", key_id, json=ASK | fields)


@pytest.fixture(autouse=True)
def _counting_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)


@pytest.fixture
def site() -> Site:
    site = Site(*KEYS)
    site.shop.engine.release = Release(MARKETS, version="sha256:markets")
    return site


def local(site: Site) -> TestClient:
    return TestClient(site.app, base_url="http://localhost:3000", client=("127.0.0.1", 5000))


# Without keys.


def test_readiness_is_503_with_its_reasons_and_says_who_may_call() -> None:
    site = Site()
    assert local(site).get("/readyz").json()["access"] == "loopback"
    site.problems.append("no model")
    assert (local(site).get("/readyz").status_code, local(site).get("/readyz").json()["problems"]) == (
        503,
        ["no model"],
    )
    assert Site(*KEYS).call("GET", "/readyz").json()["access"] == "authenticated"


def test_without_keys_other_machines_are_refused() -> None:
    outside = TestClient(Site().app, base_url="http://localhost:3000", client=("192.0.2.1", 5000))
    for path in ("/v1/decisions", "/decide", "/readyz", "/metrics"):
        assert problem(outside.post(path, json=ASK))[:2] == (403, "loopback_only")
    assert local(Site()).post("/v1/decisions", json=ASK).status_code == 200


def test_nobody_is_of_this_machine_because_a_header_says_so() -> None:
    outside = TestClient(Site().app, base_url="http://localhost:3000", client=("192.0.2.1", 5000))
    claims = {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    assert problem(outside.post("/v1/decisions", json=ASK, headers=claims))[:2] == (403, "loopback_only")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example"])
def test_a_page_from_elsewhere_cannot_call_by_its_own_name(host: str) -> None:
    answer = local(Site()).post("/v1/decisions", json=ASK, headers={"host": host, "x-forwarded-host": "localhost"})
    assert problem(answer)[:2] == (403, "loopback_only")


@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000", "[::1]"])
def test_this_machine_has_several_names(host: str) -> None:
    assert local(Site()).get("/v1/catalog", headers={"host": host}).status_code == 200


def test_without_keys_this_machine_may_do_everything_and_the_audit_calls_it_so() -> None:
    site = Site()
    assert local(site).post("/v1/decisions", json=ASK | {"now": "2026-03-02T12:00:00Z"}).status_code == 200
    assert local(site).post("/decide").text == "this machine"
    assert local(site).post("/v1/actions/card/pause").status_code == 200
    assert site.shop.ledger.audits[-1].actor == "this machine"


# With keys.


def routes() -> list[tuple[str, str, tuple[str, ...]]]:
    return [(method, path, scopes) for method, path, scopes, _ in table(Routes(lambda: None, None))]  # type: ignore[arg-type,return-value]


CLOSED = [route for route in routes() if route[2] != OPEN]


def filled(path: str) -> str:
    known = {"{decision_id:path}": "d-1", "{action_id}": "card", "{customer_id:path}": "c-1"}
    for name, value in known.items():
        path = path.replace(name, value)
    return path


SIGNED = "/v1/hooks/{source}"


def test_what_is_open_is_what_tells_nothing_of_customers_or_asks_for_a_signature() -> None:
    assert {path for _, path, scopes in routes() if scopes == OPEN} == {
        "/v1/catalog/schema.json", "/v1/openapi.json", "/v1/docs", "/metrics", SIGNED,
        "/v1/unsubscribe/{token}",  # signed
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path", "scopes"), CLOSED, ids=lambda value: str(value))
def test_every_other_route_needs_a_key_with_its_scope_from_wherever_the_call_comes(
    site: Site, method: str, path: str, scopes: tuple[str, ...]
) -> None:
    for client in ("203.0.113.9", "127.0.0.1"):
        answer = site.call(method, filled(path), client=client)
        assert problem(answer)[:2] == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="nextmove"'
    assert problem(site.call(method, filled(path), "gone"))[:2] == (401, "unauthorized")
    for scope in SCOPES:
        answer = site.call(method, filled(path), scope)
        if scope in (*scopes, "admin"):
            assert answer.status_code not in (401, 403)
        else:
            assert problem(answer)[:2] == (403, "forbidden")
            assert " or ".join(scopes) in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "scopes"), [route for route in routes() if route[2] == OPEN and route[1] != SIGNED]
)
def test_open_routes_stay_open_whatever_is_sent(site: Site, method: str, path: str, scopes: tuple[str, ...]) -> None:
    path = path.replace("{token}", site.shop.engine.links.token("c-1", "email"))
    form = {"data": {"List-Unsubscribe": "One-Click"}} if method == "POST" else {}
    for key_id in (None, "nobody"):
        assert site.call(method, path, key_id, **form).status_code == 200


@pytest.mark.parametrize("path", ["/decide", "/schema.json", "/docs.json", "/anything", "/v1x", "/DECIDE"])
def test_bentoml_s_own_routes_need_the_scope_decide(site: Site, path: str) -> None:
    assert problem(site.call("POST", path))[:2] == (401, "unauthorized")
    assert problem(site.call("POST", path, "ingest"))[:2] == (403, "forbidden")
    assert site.call("POST", path, "decide").text == "the decide one"


def test_the_front_page_is_ours_and_loads_nothing_from_elsewhere(site: Site) -> None:
    assert site.call("GET", "/").status_code == 401
    page = site.call("GET", "/", "decide", follow_redirects=True)
    assert page.status_code == 200
    assert str(page.url).endswith("/v1/docs")
    assert "<script" not in page.text


def test_probes_need_no_key(site: Site) -> None:
    for path in ("/livez", "/healthz", "/readyz"):
        assert site.call("GET", path).status_code == 200


@pytest.mark.parametrize("credentials", [f"Bearer nm_decide_{SECRET}", basic(f"nm_decide_{SECRET}:")])
def test_a_key_comes_in_authorization_too(site: Site, credentials: str) -> None:
    assert site.call("POST", "/v1/decisions", json=ASK, headers={"authorization": credentials}).status_code == 200


def test_an_issuer_s_token_has_its_scopes_and_its_market() -> None:
    site = Site(tokens=True)
    site.shop.engine.release = Release(MARKETS, version="sha256:markets")

    def decide(**claims: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token(**claims)}"}
        return site.call("POST", "/v1/decisions", json=ASK, headers=headers)

    decided = decide(market="de")
    assert decided.status_code == 200
    assert site.shop.ledger.decisions[decided.json()["decision_id"]][0].market == "de"
    assert problem(decide(scope="ingest"))[:2] == (403, "forbidden")
    assert problem(decide(exp=NOW - timedelta(days=999)))[:2] == (401, "unauthorized")
    assert problem(decide(market="mars"))[:2] == (400, "invalid_request")


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["x-api-key", "authorization"]),
    sent=st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127))
    | st.text(alphabet="nm_decide-BrBasc .=1", max_size=60).map(str.encode),
)
def test_garbage_is_answered_with_401(name: str, sent: bytes) -> None:
    headers = httpx.Headers([(name.encode(), sent)])
    answer = TestClient(GARBAGE_SITE.app).request("POST", "/v1/decisions", headers=headers, json=ASK)
    assert problem(answer)[:2] == (401, "unauthorized")


GARBAGE_SITE = Site(*KEYS, tokens=True)


def test_a_new_and_a_revoked_key_count_at_once_when_they_are_taken() -> None:
    site = Site()
    assert local(site).post("/v1/decisions", json=ASK).status_code == 200
    site.callers.take(KEYS)
    assert problem(local(site).post("/v1/decisions", json=ASK))[:2] == (401, "unauthorized")
    assert site.decide("decide").status_code == 200
    site.callers.take([key("decide", revoked_at=NOW)])
    assert problem(site.decide("decide"))[:2] == (401, "unauthorized")
    assert problem(local(site).post("/v1/decisions", json=ASK))[:2] == (401, "unauthorized")


def test_refusals_are_counted_by_reason_and_neither_counted_nor_logged_by_key(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.decide(None)
    site.decide("none-such")
    site.call("POST", "/decide", "gone")
    site.call("POST", "/v1/decisions", headers={"authorization": "Digest x"}, json=ASK)
    site.call("GET", "/metrics", "none-such")
    text = site.call("GET", "/metrics").text
    for reason, count in (("missing", 1), ("key", 2), ("malformed", 1)):
        assert f'nextmove_unauthorized_total{{reason="{reason}"}} {count}.0' in text
    assert "none-such" not in text + caplog.text
    assert SECRET not in text + caplog.text


def test_the_audit_names_the_key_that_paused(site: Site) -> None:
    site.call("POST", "/v1/actions/card/pause", "marketing", json={"reason": "wrong price"})
    assert [(entry.actor, entry.subject) for entry in site.shop.ledger.audits] == [("the marketing one", "card")]


# Keys of one market.


def test_a_key_of_a_market_decides_there_and_nowhere_else(site: Site) -> None:
    for fields in ({}, {"market": "de"}):
        decided = site.decide("german", **fields).json()
        assert site.shop.ledger.decisions[decided["decision_id"]][0].market == "de"
    for other in ("ch", "global"):
        assert problem(site.decide("german", market=other)) == (403, "forbidden", "market")
    batch = site.call("POST", "/v1/decisions/batch", "german", json={"requests": [ASK, ASK | {"market": "ch"}]})
    results = batch.json()["results"]
    assert "decision" in results[0]
    assert (results[1]["problem"]["code"], results[1]["problem"]["where"]) == ("forbidden", "requests[1].market")


def test_a_key_of_a_market_pauses_and_resumes_there_alone(site: Site) -> None:
    for what in ("pause", "resume"):
        assert site.call("POST", f"/v1/actions/card/{what}", "german").json()["markets"] == ["de"]
        answer = site.call("POST", f"/v1/actions/card/{what}", "german", json={"market": "ch"})
        assert problem(answer) == (403, "forbidden", "market")
    assert [entry.subject for entry in site.shop.ledger.audits] == ["de/card", "de/card"]


def test_a_key_of_a_market_reads_its_catalogue_and_its_decisions(site: Site) -> None:
    assert site.call("GET", "/v1/catalog", "german").json()["market"] == "de"
    assert problem(site.call("GET", "/v1/catalog?market=ch", "german")) == (403, "forbidden", "market")
    own = site.decide("german").json()["decision_id"]
    swiss = site.decide("decide", market="ch").json()["decision_id"]
    for method, path in (("GET", "/v1/decisions/{}"), ("POST", "/v1/decisions/{}/replay")):
        assert site.call(method, path.format(own), "german").status_code == 200
        assert problem(site.call(method, path.format(swiss), "german"))[:2] == (404, "unknown_decision")
        assert site.call(method, path.format(swiss), "admin").status_code == 200


# Publishable keys, and who may shift time.


@pytest.mark.parametrize(
    ("fields", "where"),
    [({"now": "2026-03-02T12:00:00Z"}, "now"), ({"mode": "preview"}, "mode"), ({"explain": True}, "explain")],
)
def test_a_page_gets_no_preview_no_explanation_and_no_other_time(
    site: Site, fields: dict[str, Any], where: str
) -> None:
    assert problem(site.decide("page", **fields)) == (403, "forbidden", where)
    assert site.decide("admin", **fields).status_code == 200


def test_another_time_is_for_admins(site: Site) -> None:
    assert problem(site.decide("decide", now="2026-03-02T12:00:00Z")) == (403, "forbidden", "now")
    assert site.decide("decide", mode="preview", explain=True).status_code == 200


def test_a_page_decides_and_reports_outcomes_and_nothing_else(site: Site) -> None:
    decided = site.decide("page", limit=1).json()["decision_id"]
    assert site.call("POST", "/v1/outcomes", "page", json={"decision_id": decided, "type": "click"}).status_code == 202
    [(outcome, _)] = site.shop.ledger.outcomes.values()
    assert outcome.source == "homepage"
    for method, path, scopes in CLOSED:
        if "decide" not in scopes:
            assert problem(site.call(method, filled(path), "page"))[:2] == (403, "forbidden")


def test_an_agent_reports_what_a_customer_said_to_an_offer_and_nothing_else() -> None:
    site = Site(*KEYS, key("desk", name="desk", scopes=("agent",)))
    decided = site.decide("decide", limit=1).json()["decision_id"]
    said = [{"decision_id": decided, "type": kind} for kind in ("accept", "reject", "purchase")]
    told = site.call("POST", "/v1/outcomes", "desk", json=said).json()["results"]
    assert [each["status"] for each in told] == ["accepted", "accepted", "rejected"]
    assert (told[2]["problem"]["code"], told[2]["problem"]["where"]) == ("forbidden", "[2].type")
    assert site.call("POST", "/v1/outcomes", "desk", json=said[0]).status_code == 202
    assert problem(site.call("POST", "/v1/outcomes", "desk", json=said[2])) == (403, "forbidden", "type")


def test_a_key_of_a_market_reports_outcomes_of_its_decisions_alone(site: Site) -> None:
    ours = site.decide("german", market="de", limit=1).json()["decision_id"]
    theirs = site.decide("decide", limit=1).json()["decision_id"]
    clicks = [{"decision_id": decision_id, "type": "click"} for decision_id in (ours, theirs)]
    told = site.call("POST", "/v1/outcomes", "german", json=clicks).json()["results"]
    assert [each["status"] for each in told] == ["accepted", "rejected"]
    assert told[1]["problem"]["code"] == "unknown_decision"
    assert problem(site.call("POST", "/v1/outcomes", "german", json=clicks[1]))[:2] == (404, "unknown_decision")


def test_a_page_of_an_allowed_site_calls_from_its_browser_and_no_other() -> None:
    shop, other = "https://shop.example", "https://other.example"
    site = Site(*KEYS, origins=(shop,))
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key,content-type"}
    assert site.call("OPTIONS", "/v1/decisions", headers={"origin": shop, **asks}).status_code == 200
    assert site.call("OPTIONS", "/v1/decisions", headers={"origin": other, **asks}).status_code == 400
    for key_id, status in (("page", 200), (None, 401)):  # a page can also read why it was refused
        answer = site.call("POST", "/v1/decisions", key_id, json=ASK, headers={"origin": shop})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, shop)
        assert "access-control-allow-credentials" not in answer.headers
    assert (
        "access-control-allow-origin"
        not in site.call("POST", "/v1/decisions", "page", json=ASK, headers={"origin": other}).headers
    )


def test_without_a_setting_no_page_of_another_site_may_call(site: Site) -> None:
    answer = site.call("POST", "/v1/decisions", "page", json=ASK, headers={"origin": "https://shop.example"})
    assert "access-control-allow-origin" not in answer.headers


def one_for_the_young() -> Site:
    catalog = content(action("card", eligibility="customer.age < 30.0"), placements=(placement(),))
    site = Site(*KEYS)
    site.shop.engine.release = Release({"global": catalog}, version="sha256:young")
    return site


def alone(site: Site, key_id: str, **fields: Any) -> str:
    return site.decide(key_id, **fields).json()["decision_id"]


def in_a_batch(site: Site, key_id: str, **fields: Any) -> str:
    answer = site.call("POST", "/v1/decisions/batch", key_id, json={"requests": [ASK | fields]})
    return answer.json()["results"][0]["decision"]["decision_id"]


@pytest.mark.parametrize("ask", [alone, in_a_batch])
def test_a_page_s_word_does_not_override_what_is_stored(ask: Callable[..., str]) -> None:
    site = one_for_the_young()
    for key_id, seen, shown in (("page", 41.0, []), ("decide", 20.0, ["card"])):
        record = site.shop.ledger.decisions[ask(site, key_id, context={"age": 20})][0]
        assert record.features["age"] == seen
        assert [slot.action_id for slot in record.slots] == shown
        assert record.overridden == (("age",) if key_id == "decide" else ())


def test_a_page_does_not_see_the_first_decision_behind_a_guessed_id(site: Site) -> None:
    first = site.decide("decide", decision_id="d-1").json()
    for key_id in ("page", "german"):
        answer = site.decide(key_id, decision_id="d-1", limit=1)
        assert problem(answer)[:2] == (409, "decision_id_reused")
        assert "decision" not in answer.json()
        batch = site.call(
            "POST", "/v1/decisions/batch", key_id, json={"requests": [ASK | {"decision_id": "d-1", "limit": 1}]}
        )
        assert "decision" not in batch.json()["results"][0]["problem"]
    assert site.decide("decide", decision_id="d-1", limit=1).json()["decision"] == first


# The document.


def test_the_document_says_which_route_needs_which_scope() -> None:
    document = openapi_document()
    schemes = document["components"]["securitySchemes"]
    for method, path, scopes in routes():
        operation = document["paths"].get(path.replace(":path", ""), {}).get(method.lower())
        if operation is None:
            assert path in ("/v1/openapi.json", "/v1/docs")
            continue
        wanted = [{scheme: [scope]} for scope in scopes for scheme in schemes]
        assert operation.get("security", []) == wanted
        assert ({"401", "403"} <= operation["responses"].keys()) == bool(scopes)
    assert schemes.keys() == {"ApiKey", "Bearer", "Basic"}
