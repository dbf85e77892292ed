"""Experiments as flags: what OpenFeature's remote evaluation protocol 0.3.0 says of routes, answers and errors."""

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import values

from decisioning.catalog import Release
from decisioning.experiment_content import Holdout, Variant
from tests.builders import catalog, content, experiment
from tests.serving.test_access import Site
from tests.serving.test_callers import key
from tests.serving.test_engine import Shop
from tests.serving.test_http import problem

FLAGS = "/ofrep/v1/evaluate/flags"
KEYS = (key("decide"), key("german", market="de"), key("page", publishable=True), key("till", scopes=("ingest",)))
ONE = (Variant(id="on", payload={"value": True}),)
EXPERIMENTS = (
    experiment(variants=(Variant(id="b", payload={"tone": "bold"}),), testers={"tess": "b"}),
    experiment(id="banner", version=2, variants=ONE),
    experiment(id="bare", variants=(Variant(id="a"),)),
    experiment(id="adults", variants=ONE, eligibility="customer.age >= 40.0"),
    experiment(id="over", variants=ONE, status="stopped"),
    experiment(id="soon", variants=ONE, starts=datetime(2099, 1, 1, tzinfo=UTC)),
    experiment(id="idea", variants=ONE, status="draft"),
)


@pytest.fixture(autouse=True)
def _counting_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)


@pytest.fixture
def site() -> Site:
    return Site(*KEYS, shop=Shop(catalog(experiments=EXPERIMENTS)))


def one(site: Site, name: str, key_id: str | None = "decide", **context: Any) -> Any:
    return site.call("POST", f"{FLAGS}/{name}", key_id, json={"context": {"targetingKey": "c-1"} | context})


def everything(site: Site, key_id: str = "decide", *, etag: str = "", **context: Any) -> Any:
    headers = {"if-none-match": etag} if etag else {}
    return site.call("POST", FLAGS, key_id, json={"context": {"targetingKey": "c-1"} | context}, headers=headers)


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        ("hero_copy", {}, {"reason": "SPLIT", "variant": "b", "value": {"tone": "bold"}}),
        (
            "hero_copy",
            {"targetingKey": "tess"},
            {"reason": "TARGETING_MATCH", "variant": "b", "value": {"tone": "bold"}},
        ),
        ("banner", {}, {"reason": "SPLIT", "variant": "on", "value": True, "metadata": {"version": 2}}),
        ("bare", {}, {"reason": "SPLIT", "variant": "a"}),
        ("adults", {}, {"reason": "SPLIT", "variant": "on", "value": True}),
        ("adults", {"age": 20}, {"reason": "STATIC", "variant": ""}),
        ("adults", {"targetingKey": "anonymous:v"}, {"reason": "STATIC", "variant": ""}),
        ("over", {}, {"reason": "DISABLED", "variant": ""}),
        ("soon", {}, {"reason": "DISABLED", "variant": ""}),
    ],
)
def test_a_flag_is_a_variant_s_payload(
    site: Site, name: str, context: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = one(site, name, **context)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"key": name, "metadata": {"version": 1}} | expected


@pytest.mark.parametrize("name", ["boat", "idea", "a/b"])
def test_a_draft_or_what_there_is_not_is_not_found(site: Site, name: str) -> None:
    answer = one(site, name)
    said = answer.json()
    assert (answer.status_code, said["key"], said["errorCode"]) == (404, name, "FLAG_NOT_FOUND")
    assert f"'{name}'" in said["errorDetails"]


def test_who_is_held_out_gets_no_value(site: Site) -> None:
    site.shop.engine.release = Release(
        {"global": content(experiments=EXPERIMENTS, holdout=Holdout(share=1.0))}, version="sha256:held"
    )
    assert {each["reason"] for each in everything(site).json()["flags"]} == {"STATIC", "DISABLED"}
    assert not any("value" in each for each in everything(site).json()["flags"])


def test_all_flags_come_at_once_and_again_only_once_they_are_others(site: Site) -> None:
    first = everything(site)
    assert [each["key"] for each in first.json()["flags"]] == [each.id for each in EXPERIMENTS if each.id != "idea"]
    assert first.json()["flags"] == [one(site, each["key"]).json() for each in first.json()["flags"]]
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}'):
        again = everything(site, etag=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    others = everything(site, etag=etag, age=20)
    assert (others.status_code, others.headers["etag"] != etag) == (200, True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "TARGETING_KEY_MISSING"),
        ({"context": {}}, "TARGETING_KEY_MISSING"),
        ({"context": {"targetingKey": ""}}, "TARGETING_KEY_MISSING"),
        ({"context": {"targetingKey": None}}, "TARGETING_KEY_MISSING"),
        ({"context": {"targetingKey": 7}}, "INVALID_CONTEXT"),
        ({"context": {"targetingKey": "anonymous:"}}, "INVALID_CONTEXT"),
        ({"context": {"targetingKey": "c-1", "cart": ["sofa"]}}, "INVALID_CONTEXT"),
        ({"context": {"targetingKey": "c-1", "age": "old"}}, "INVALID_CONTEXT"),
        ({"context": {"targetingKey": "c-1", "market": "fr"}}, "INVALID_CONTEXT"),
        ({"context": "c-1"}, "INVALID_CONTEXT"),
        (b"{", "PARSE_ERROR"),
        (b" " * 300_000, "PARSE_ERROR"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_the_protocol_s_words(site: Site, body: Any, code: str) -> None:
    given = (
        {"content": body, "headers": {"content-type": "application/json"}}
        if isinstance(body, bytes)
        else {"json": body}
    )
    for path, named in ((f"{FLAGS}/banner", {"key": "banner"}), (FLAGS, {})):
        answer = site.call("POST", path, "decide", **given)
        said = answer.json()
        assert (answer.status_code, said.pop("errorDetails") != "") == (400, True)
        assert said == {"errorCode": code, **named}


def test_a_body_that_is_no_json_by_its_own_account_is_a_parse_error(site: Site) -> None:
    answer = site.call("POST", FLAGS, "decide", content=b"{}")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "PARSE_ERROR")


def test_who_may_not_ask_is_refused_as_everywhere(site: Site) -> None:
    assert problem(one(site, "banner", None))[:2] == (401, "unauthorized")
    assert problem(one(site, "banner", "till"))[:2] == (403, "forbidden")
    assert problem(everything(site, "german", market="global")) == (403, "forbidden", "context.market")


def test_a_page_s_word_overrides_no_stored_value(site: Site) -> None:
    assert one(site, "adults", "page", age=20).json()["reason"] == "SPLIT"


def test_a_browser_s_wish_not_to_be_known_counts(site: Site) -> None:
    body = {"context": {"targetingKey": "c-1"}}
    asked = site.call("POST", f"{FLAGS}/adults", "page", json=body, headers={"sec-gpc": "1"})
    assert asked.json()["reason"] == "STATIC"


def test_flags_are_those_of_the_market(site: Site) -> None:
    german = content(market="de", experiments=EXPERIMENTS[1:2])
    site.shop.engine.release = Release({"global": content(), "de": german}, version="sha256:two")
    for answer in (everything(site, "german"), everything(site, market="de")):
        assert [each["key"] for each in answer.json()["flags"]] == ["banner"]
    assert everything(site).json() == {"flags": []}


def test_a_store_that_is_away_is_an_error_of_the_service(site: Site) -> None:
    site.shop.hot_state.down = True
    for answer in (one(site, "banner"), everything(site)):
        assert answer.status_code == 500
        assert list(answer.json()) == ["errorDetails"]


def test_a_page_of_an_allowed_site_polls_from_its_browser() -> None:
    site = Site(*KEYS, shop=Shop(catalog(experiments=EXPERIMENTS)), origins=("https://shop.example",))
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "if-none-match,x-api-key"}
    assert site.call("OPTIONS", FLAGS, headers={"origin": "https://shop.example", **asks}).status_code == 200
    body = {"context": {"targetingKey": "c-1"}}
    answer = site.call("POST", FLAGS, "page", json=body, headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-expose-headers"] == "ETag"


def test_what_is_no_route_of_the_protocol_is_a_problem(site: Site) -> None:
    assert problem(site.call("POST", "/ofrep/v2/flags", "decide"))[:2] == (404, "not_found")
    assert problem(site.call("GET", FLAGS, "decide"))[:2] == (405, "method_not_allowed")
