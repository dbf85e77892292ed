import json
from typing import Any

import msgspec
import pytest
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.answer import DecisionAnswer
from decisioning.catalog import Release
from decisioning.experiment_content import Layer
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from serving.customers import ConsentStatement, PreferencesStatement, Standing
from serving.http.app import ELSEWHERE, Routes, create_app, record_document
from serving.http.metrics import Metrics
from serving.http.openapi import (
    ANSWER_EXAMPLE,
    EXPLAINED_EXAMPLE,
    OUTCOME_EXAMPLE,
    PROBLEM_EXAMPLE,
    REQUEST_EXAMPLE,
    docs_page,
    openapi_document,
)
from serving.http.problems import Problem
from serving.pauses import PauseAnswer
from tests.builders import catalog, content, experiment, placement, release
from tests.serving.test_callers import callers_with
from tests.serving.test_engine import Shop

HEADERS = {"content-type": "application/json"}
ASK = {"customer_id": "c-1", "placement": "home_hero"}


@pytest.fixture
def shop() -> Shop:
    return Shop(catalog(experiments=(experiment(),)))


@pytest.fixture
def client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    # Libraries that tests import switch the whole process to counting in files, as BentoML's workers do.
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    return TestClient(create_app(Routes(lambda: shop.engine, metrics), metrics, callers_with()))


def problem(response: Any) -> tuple[int, str, str | None]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"]
    return response.status_code, body["code"], body.get("where")


def test_a_decision_has_the_contract_s_fields(client: TestClient) -> None:
    body = client.post("/v1/decisions", json=ASK).json()
    assert {
        "decision_id",
        "decided_at",
        "customer_id",
        "placement",
        "actions",
        "experiments",
        "reason",
        "exploration",
        "model",
        "catalog_version",
        "features_as_of",
        "expires_at",
    } <= body.keys()
    first = body["actions"][0]
    assert first["slot"] == 1
    assert 0 < first["probability"] <= 1
    assert first["priority"] == pytest.approx(
        first["propensity"] * first["value"] * first["context_weight"] * first["lever"]
    )
    assert body["experiments"][0]["reason"] == "SPLIT"
    assert body["model"] == {"name": "shop-propensity", "version": "7"}


def test_explain_names_every_dropped_action(client: TestClient) -> None:
    body = client.post("/v1/decisions", json=ASK | {"explain": True, "exclude": ["loan"]}).json()
    assert [drop for drop in body["dropped"] if drop["action_id"] == "loan"] == [
        {"action_id": "loan", "step": "candidates", "reason": "EXCLUDED", "detail": "excluded by the request"}
    ]


def test_an_empty_answer_counts_what_each_step_dropped(client: TestClient) -> None:
    body = client.post("/v1/decisions", json=ASK | {"exclude": ["card", "loan", "no_action"]}).json()
    assert (body["reason"], body["dropped_by_step"]) == ("NO_ELIGIBLE_ACTION", {"candidates": 3})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "malformed_json", None)),
        (b"\xff\xfe", (400, "malformed_json", None)),
        (b'{"customer_id":"c","placement":"home_hero","context":{"x":NaN}}', (400, "malformed_json", None)),
        (b'{"customer_id":"c","placement":"home_hero","context":{"x":1e999}}', (400, "invalid_request", "context")),
        (b"[" * 100_000, (400, "invalid_request", None)),
        (b"[]", (400, "invalid_request", None)),
        (b'{"customer_id":"c"}', (400, "invalid_request", None)),
        (b'{"placement":"home_hero"}', (400, "invalid_request", "customer_id")),
        (b'{"customer_id":7,"placement":"home_hero"}', (400, "invalid_request", "customer_id")),
        (b'{"customer_id":"","placement":"home_hero"}', (400, "invalid_request", "customer_id")),
        (b'{"customer_id":"a\\nb","placement":"home_hero"}', (400, "invalid_request", "customer_id")),
        (b'{"customer_id":"a\\n","placement":"home_hero"}', (400, "invalid_request", "customer_id")),
        (b'{"customer_id":"c","placement":"home_hero","limit":0}', (400, "invalid_request", "limit")),
        (b'{"customer_id":"c","placement":"home_hero","colour":1}', (400, "invalid_request", None)),
        (b'{"customer_id":"c","placement":"home_hero","context":{"a":{}}}', (400, "invalid_request", "context[...]")),
        (b'{"customer_id":"c","placement":"hero"}', (422, "unknown_placement", "placement")),
        (b'{"customer_id":"c","placement":"home_hero","actions":["x"]}', (422, "unknown_action", "actions[0]")),
    ],
)
def test_bad_input_is_a_problem_with_a_stable_code_and_its_place(
    client: TestClient, shop: Shop, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    status, code, where = problem(client.post("/v1/decisions", content=body, headers=HEADERS))
    assert (status, code) == expected[:2]
    assert expected[2] is None or (where or "").startswith(expected[2])
    assert shop.ledger.decisions == {}
    assert client.post("/v1/decisions", json=ASK).status_code == 200


def test_an_id_of_256_characters_is_taken_and_one_more_is_not(client: TestClient) -> None:
    assert client.post("/v1/decisions", json=ASK | {"customer_id": "c" * 256}).status_code == 200
    answer = client.post("/v1/decisions", json=ASK | {"customer_id": "c" * 257})
    assert problem(answer) == (400, "invalid_request", "customer_id")


def test_an_oversized_body_is_refused(client: TestClient) -> None:
    body = json.dumps(ASK | {"context": {"x": "y" * 300_000}}).encode()
    assert problem(client.post("/v1/decisions", content=body, headers=HEADERS))[:2] == (413, "body_too_large")


def test_a_body_that_is_not_declared_as_json_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/decisions", content=json.dumps(ASK), headers={"content-type": "text/plain"})
    assert problem(answer)[:2] == (415, "wrong_media_type")


def test_a_conflict_carries_the_first_answer(client: TestClient) -> None:
    first = client.post("/v1/decisions", json=ASK | {"decision_id": "d-1"}).json()
    assert client.post("/v1/decisions", json=ASK | {"decision_id": "d-1"}).json() == first
    conflict = client.post("/v1/decisions", json=ASK | {"decision_id": "d-1", "limit": 1})
    assert problem(conflict)[:2] == (409, "decision_id_reused")
    assert conflict.json()["decision"] == first


def test_an_id_is_of_all_the_placements_that_it_was_first_sent_with(client: TestClient, shop: Shop) -> None:
    shop.engine.release = release(placements=tuple(placement(name, slots=1) for name in ("hero", "inbox", "footer")))
    asked = {"customer_id": "c-1", "decision_id": "d", "placements": ["hero", "inbox"]}
    first = client.post("/v1/decisions", json=asked).json()
    for others in (["inbox", "hero"], ["footer", "hero"], ["hero"]):
        conflict = client.post("/v1/decisions", json=asked | {"placements": others})
        assert problem(conflict)[:2] == (409, "decision_id_reused")
    alone = {"customer_id": "c-1", "decision_id": "d.hero", "placement": "hero"}
    conflict = client.post("/v1/decisions", json=alone)
    assert problem(conflict)[:2] == (409, "decision_id_reused")
    assert conflict.json()["decision"] == first["decisions"][0]
    assert shop.ledger.decisions.keys() == {"d.hero", "d.inbox"}
    assert client.post("/v1/decisions", json=asked).json() == first


def test_a_batch_answers_in_order_each_with_its_own_result(client: TestClient) -> None:
    requests = [ASK, {"placement": 3}, ASK | {"placement": "hero"}, ASK | {"decision_id": "d-9"}]
    results = client.post("/v1/decisions/batch", json={"requests": requests}).json()["results"]
    assert [next(iter(result)) for result in results] == ["decision", "problem", "problem", "decision"]
    assert results[1]["problem"]["where"].startswith("requests[1]")
    assert results[3]["decision"]["decision_id"] == "d-9"


def test_a_batch_has_at_most_1000_requests(client: TestClient) -> None:
    assert problem(client.post("/v1/decisions/batch", json={"requests": [ASK] * 1001}))[:2] == (400, "invalid_request")
    assert problem(client.post("/v1/decisions/batch", json={"requests": []}))[:2] == (400, "invalid_request")


def test_a_decision_can_be_read_back_with_everything_it_used(client: TestClient) -> None:
    made = client.post("/v1/decisions", json=ASK).json()
    found = client.get(f"/v1/decisions/{made['decision_id']}").json()
    assert found["answer"] == made
    assert found["record"]["features"] == {"age": 41.0, "city": "ulm"}
    assert {"action_id", "propensity", "priority"} <= found["record"]["candidates"][0].keys()
    assert problem(client.get("/v1/decisions/nothing"))[:2] == (404, "unknown_decision")


def test_every_part_of_a_record_has_names(shop: Shop) -> None:
    record = shop.decide()
    filled = {name for name in record.__struct_fields__ if isinstance(getattr(record, name), tuple)}
    document = record_document(record)
    named = {name for name in filled if all(isinstance(item, dict | str) for item in document[name])}
    assert named == filled
    assert {"candidates", "slots", "consents"} <= {name for name in filled if document[name]}
    assert msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord) == record


def test_outcomes_come_alone_or_as_a_list_with_a_result_each(client: TestClient) -> None:
    made = client.post("/v1/decisions", json=ASK | {"limit": 1}).json()
    one = {"decision_id": made["decision_id"], "type": "accept", "outcome_id": "o-1"}
    alone = client.post("/v1/outcomes", json=one)
    assert (alone.status_code, alone.json()) == (202, {"status": "accepted", "outcome_id": "o-1"})
    results = client.post("/v1/outcomes", json=[one, one | {"type": "nonsense"}, one | {"outcome_id": "o-2"}]).json()
    assert [result["status"] for result in results["results"]] == ["duplicate", "rejected", "accepted"]
    assert results["results"][1]["problem"]["where"] == "[1].type"


def test_a_single_wrong_outcome_is_a_problem(client: TestClient) -> None:
    assert problem(client.post("/v1/outcomes", json={"type": "accept"}))[:2] == (400, "invalid_request")
    made = client.post("/v1/decisions", json=ASK | {"limit": 1}).json()
    ghost = {"decision_id": made["decision_id"], "type": "accept", "action_id": "ghost"}
    assert problem(client.post("/v1/outcomes", json=ghost)) == (422, "unknown_action", "action_id")


def test_the_catalogue_lists_what_is_served(client: TestClient) -> None:
    body = client.get("/v1/catalog").json()
    assert body["version"] == "sha256:test"
    assert {"id": "home_hero", "channel": "web", "slots": 2}.items() <= body["placements"][0].items()
    assert body["experiments"][0].keys() >= {"id", "layer", "variants"}


def test_the_catalogue_says_each_experiment_s_layer_and_never_who_tests(client: TestClient, shop: Shop) -> None:
    tested = (experiment(layer="checkout", testers={"ann@example.com": "b"}), experiment(id="prices"))
    shop.engine.release = release(experiments=tested, layers=(Layer("checkout"),))
    said = client.get("/v1/catalog")
    assert [each["layer"] for each in said.json()["experiments"]] == ["checkout", None]
    assert "ann@example.com" not in said.text


def test_a_full_ledger_is_a_503_that_asks_to_try_again(client: TestClient, shop: Shop) -> None:
    shop.ledger.down = True
    answer = client.post("/v1/decisions", json=ASK)
    assert problem(answer)[:2] == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


def test_a_mistake_of_ours_is_a_problem_without_its_details(client: TestClient, shop: Shop) -> None:
    shop.engine.scorer.score = None  # type: ignore[method-assign,assignment,union-attr]
    answer = client.post("/v1/decisions", json=ASK)
    assert problem(answer)[:2] == (500, "internal_error")
    assert "NoneType" not in answer.text


def test_an_unknown_route_and_a_wrong_method_are_problems(client: TestClient) -> None:
    assert client.get("/v1/nothing").json()["code"] == "not_found"
    wrong = client.delete("/v1/decisions")
    assert problem(wrong)[:2] == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


def test_metrics_count_by_route_and_reason_and_never_by_id(client: TestClient) -> None:
    made = client.post("/v1/decisions", json=ASK).json()
    client.get(f"/v1/decisions/{made['decision_id']}")
    text = client.get("/metrics").text
    assert 'nextmove_decisions_total{placement="home_hero",reason="RANKED"} 1.0' in text
    assert 'route="/v1/decisions/{decision_id:path}"' in text
    assert made["decision_id"] not in text
    assert "c-1" not in text


def test_the_openapi_document_covers_every_route(client: TestClient) -> None:
    document = client.get("/v1/openapi.json").json()
    routes = {route.path.replace(":path", "") for route in client.app.routes}  # type: ignore[attr-defined]
    routes -= {each.replace(":path", "") for each in ELSEWHERE}  # answer that there is no such route
    assert routes - {"/v1/openapi.json", "/v1/docs"} <= document["paths"].keys()
    assert "/v1/decisions" in client.get("/v1/docs").text


def test_every_example_in_the_document_has_its_wire_type_s_fields() -> None:
    for example, kind in (
        (REQUEST_EXAMPLE, DecisionRequest),
        (ANSWER_EXAMPLE, DecisionAnswer),
        (EXPLAINED_EXAMPLE, DecisionAnswer),
        (OUTCOME_EXAMPLE, OutcomeReport),
        (PROBLEM_EXAMPLE, Problem),
    ):
        assert msgspec.to_builtins(msgspec.convert(example, kind)).keys() == example.keys()
    paths = openapi_document()["paths"]
    for what in ("pause", "resume"):
        [media] = paths[f"/v1/actions/{{action_id}}/{what}"]["post"]["responses"]["200"]["content"].values()
        msgspec.convert(media["example"], PauseAnswer)
    for what, kind in (("consent", ConsentStatement), ("preferences", PreferencesStatement)):
        operation = paths[f"/v1/customers/{{customer_id}}/{what}"]["put"]
        [asked], [told] = (
            operation["requestBody"]["content"].values(),
            operation["responses"]["200"]["content"].values(),
        )
        msgspec.convert(asked["example"], kind)
        assert json.loads(msgspec.json.encode(msgspec.convert(told["example"], Standing))) == told["example"]
    assert EXPLAINED_EXAMPLE["explanation"]["losers"]


def test_the_document_says_what_may_be_left_out() -> None:
    paths = openapi_document()["paths"]
    asked = paths["/v1/catalog"]["get"]
    assert [(each["name"], each["in"], each["required"]) for each in asked["parameters"]] == [
        ("market", "query", False)
    ]
    assert "400" in asked["responses"]
    for what in ("pause", "resume"):
        assert paths[f"/v1/actions/{{action_id}}/{what}"]["post"]["requestBody"]["required"] is False
    assert paths["/v1/decisions"]["post"]["requestBody"]["required"] is True


def test_every_example_in_the_document_is_accepted_by_its_schema(client: TestClient) -> None:
    asked = openapi_document()["paths"]["/v1/decisions"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/v1/decisions", json=asked["example"]).status_code == 200
    assert "<script" not in docs_page(openapi_document())


def test_a_body_nested_past_reason_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/outcomes", content=b"[" * 100_000, headers=HEADERS)
    assert problem(answer)[:2] == (400, "malformed_json")


def test_several_placements_are_answered_together(client: TestClient, shop: Shop) -> None:
    shop.engine.release = release(placements=(placement("hero", slots=1), placement("inbox", slots=1)))
    body = client.post("/v1/decisions", json={"customer_id": "c-1", "placements": ["hero", "inbox"]}).json()
    assert [decision["placement"] for decision in body["decisions"]] == ["hero", "inbox"]
    batch = client.post("/v1/decisions/batch", json={"requests": [{"customer_id": "c-1", "placements": ["hero"]}]})
    assert [decision["placement"] for decision in batch.json()["results"][0]["decisions"]] == ["hero"]


def test_an_action_can_be_paused_and_resumed(client: TestClient) -> None:
    answered = client.post("/v1/actions/card/pause", json={"reason": "wrong price"})
    assert (answered.status_code, answered.json()["status"]) == (200, "paused")
    assert client.get("/v1/catalog").json()["paused"] == ["card"]
    dropped = client.post("/v1/decisions", json={**ASK, "explain": True}).json()["dropped"]
    assert ("card", "PAUSED") in {(drop["action_id"], drop["reason"]) for drop in dropped}
    assert client.post("/v1/actions/card/resume").json()["status"] == "resumed"
    assert client.get("/v1/catalog").json()["paused"] == []


def in_markets(shop: Shop) -> None:
    shop.engine.release = Release({"global": content(), "de": content(market="de")}, version="sha256:two")


def test_a_pause_whose_length_is_not_announced_is_for_the_market_that_it_names(client: TestClient, shop: Shop) -> None:
    in_markets(shop)
    chunked = client.post("/v1/actions/card/pause", content=iter([b'{"market":', b' "de"}']), headers=HEADERS)
    assert (chunked.status_code, chunked.json()["market"], chunked.json()["markets"]) == (200, "de", ["de"])
    assert client.get("/v1/catalog").json()["paused"] == ["de/card"]


def test_a_pause_needs_no_body_but_one_that_is_there_must_be_json(client: TestClient, shop: Shop) -> None:
    in_markets(shop)
    wrong = client.post("/v1/actions/card/pause", content=iter([b'{"market": "de"}']))
    assert problem(wrong) == (415, "wrong_media_type", "content-type")
    assert problem(client.post("/v1/actions/card/pause", content=iter([b"{"]), headers=HEADERS))[0] == 400
    large = client.post("/v1/actions/card/pause", content=iter([b" " * 300_000]), headers=HEADERS)
    assert problem(large)[0] == 413
    assert client.get("/v1/catalog").json()["paused"] == []
    for nothing in (iter([]), iter([b""]), b""):
        answered = client.post("/v1/actions/card/pause", content=nothing)
        assert (answered.status_code, answered.json()["markets"]) == (200, ["de", "global"])


def test_one_market_cannot_go_on_while_all_are_paused(client: TestClient, shop: Shop) -> None:
    in_markets(shop)
    client.post("/v1/actions/card/pause")
    refused = client.post("/v1/actions/card/resume", json={"market": "de"})
    assert problem(refused) == (409, "still_paused", "market")
    assert client.get("/v1/catalog").json()["paused"] == ["card"]


def test_pausing_what_there_is_not_is_refused(client: TestClient) -> None:
    assert problem(client.post("/v1/actions/boat/pause"))[:2] == (404, "unknown_action")
    assert problem(client.post("/v1/actions/card/pause", json={"market": "fr"})) == (400, "invalid_request", "market")
    assert problem(client.post("/v1/actions/card/pause", json={"why": "x"}))[0] == 400


def test_the_catalogue_is_that_of_the_market_that_is_asked_for(client: TestClient) -> None:
    assert client.get("/v1/catalog", params={"market": "global"}).json()["market"] == "global"
    assert problem(client.get("/v1/catalog", params={"market": "fr"})) == (400, "invalid_request", "market")


def test_editors_can_fetch_the_catalogue_s_schema(client: TestClient) -> None:
    schema = client.get("/v1/catalog/schema.json").json()
    assert "actions" in schema["properties"]
    assert schema["additionalProperties"] is False


def test_a_decision_can_be_replayed(client: TestClient) -> None:
    decided = client.post("/v1/decisions", json=ASK).json()["decision_id"]
    replayed = client.post(f"/v1/decisions/{decided}/replay")
    assert (replayed.status_code, replayed.json()["identical"]) == (200, True)
    assert problem(client.post("/v1/decisions/none/replay"))[:2] == (404, "unknown_decision")


def test_the_page_s_commands_use_the_route_s_method() -> None:
    page = docs_page(openapi_document())
    assert "curl -s -X PUT localhost:3000/v1/customers/{customer_id}/consent" in page
    assert "curl -s localhost:3000/v1/decisions -H" in page
