"""The variants of a customer alone: those that a decision would have, and nothing else happens."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import values
from starlette.testclient import TestClient

from decisioning.catalog import Release
from decisioning.errors import StoreError
from decisioning.experiment_content import Holdout
from decisioning.identity import Person
from decisioning.profile import HotProfile
from decisioning.request import AssignmentRequest
from decisioning.trial import Trial
from tests.builders import CONSENTED, NOW, catalog, content, experiment, placement, request
from tests.serving.test_access import Site
from tests.serving.test_callers import key
from tests.serving.test_engine import Shop
from tests.serving.test_http import problem

KEYS = (
    key("decide"),
    key("german", market="de"),
    key("page", publishable=True),
    key("till", scopes=("ingest",)),
)
PLACES = (placement(), placement("newsletter", channel="email", slots=1, shown_by="sent"))
COPY, MAIL = experiment(), experiment(id="mail", placements=("newsletter",))
ADULTS = experiment(id="adults", eligibility="customer.age >= 40.0")


@pytest.fixture(autouse=True)
def _counting_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)


def shop_with(*experiments: Any, hot: HotProfile = CONSENTED, **overrides: Any) -> Shop:
    return Shop(catalog(placements=PLACES, experiments=experiments, **overrides), hot=hot)


def assigned(shop: Shop, *, stored_first: bool = False, **asked: Any) -> dict[str, str]:
    """Experiments and variants."""
    given = AssignmentRequest(**({"customer_id": "c-1"} | asked))
    found = asyncio.run(shop.engine.assign(given, now=NOW, stored_first=stored_first))
    return {each.experiment: each.variant for each in found.assignments}


def ask(site: Site, key_id: str | None = "decide", **body: Any) -> Any:
    return site.call("POST", "/v1/assignments", key_id, json={"customer_id": "c-1"} | body)


def test_they_are_those_of_a_decision_and_nothing_is_kept_of_the_question() -> None:
    shop = shop_with(COPY, MAIL, ADULTS)
    for name in ("c-1", "c-2", "c-3"):
        for place in ("home_hero", "newsletter"):
            alone = assigned(shop, customer_id=name, placement=place)
            assert (shop.ledger.decisions, shop.hot_state.contacts) == ({}, [])
            decided = asyncio.run(shop.engine.decide(request(customer_id=name, placement=place), now=NOW))
            assert alone == {each.experiment: each.variant for each in decided.assignments}
            shop.ledger.decisions.clear()
            shop.hot_state.contacts.clear()


def test_without_a_placement_they_are_those_of_all_in_the_catalogues_order() -> None:
    shop = shop_with(
        MAIL, COPY, experiment(id="later", starts=NOW + timedelta(days=1)), experiment(id="d", status="draft")
    )
    assert list(assigned(shop)) == ["mail", "hero_copy"]
    assert list(assigned(shop, placement="home_hero")) == ["hero_copy"]
    assert list(assigned(shop, experiments=("mail", "d"))) == ["mail"]
    assert shop.hot_state.reads == 3, "one a question"


def test_who_is_in_the_control_or_is_erased_is_in_no_experiment() -> None:
    assert assigned(shop_with(COPY, holdout=Holdout(share=1.0))) == {}
    shop = shop_with(COPY)
    shop.hot_state.buried = frozenset({"c-1"})
    assert assigned(shop) == {}


def test_a_person_has_the_variant_of_whom_was_met_first() -> None:
    visitor = next(n for n in "uvwxyz" if Trial(COPY).lot(f"anonymous:{n}") != Trial(COPY).lot("c-1"))
    shop = shop_with(COPY, hot=HotProfile(met_first=f"anonymous:{visitor}"))
    assert assigned(shop) == assigned(shop_with(COPY), customer_id=None, anonymous_id=visitor)
    assert assigned(shop) != assigned(shop_with(COPY))

    nobody_met = Person("c-1", ("c-1", f"anonymous:{visitor}"))
    shop = shop_with(COPY, hot=HotProfile(person=nobody_met))
    assert assigned(shop, customer_id=None, anonymous_id=visitor) == assigned(shop_with(COPY))


def test_rules_see_what_a_decision_there_may_use() -> None:
    shop = shop_with(ADULTS)
    assert assigned(shop) == {"adults": Trial(ADULTS).lot("c-1").variant.id}  # type: ignore[union-attr]
    assert assigned(shop, context={"age": 20}) == {}
    assert assigned(shop, context={"age": 20}, stored_first=True) != {}
    assert assigned(shop, global_privacy_control=True) == {}
    assert assigned(shop, customer_id=None, anonymous_id="v") == {}


def test_without_hot_state_nobody_can_say_who_is_asked_about() -> None:
    shop = shop_with(COPY)
    shop.hot_state.down = True
    with pytest.raises(StoreError, match="hot state cannot be read"):
        assigned(shop)


# Over HTTP.


@pytest.fixture
def site() -> Site:
    return Site(*KEYS, shop=shop_with(COPY, ADULTS))


def test_the_answer_names_the_customer_and_what_each_variant_brings(site: Site) -> None:
    assert ask(site, experiments=["hero_copy"]).json() == {
        "customer_id": "c-1",
        "anonymous_id": None,
        "experiments": [{"experiment": "hero_copy", "variant": "b", "reason": "SPLIT", "payload": {"tone": "bold"}}],
        "catalog_version": "sha256:test",
    }


def test_a_page_s_word_overrides_no_stored_value_and_its_browser_s_wish_counts(site: Site) -> None:
    def names(key_id: str, **call: Any) -> list[str]:
        body = {"customer_id": "c-1", "context": call.pop("context", {})}
        found = site.call("POST", "/v1/assignments", key_id, json=body, **call).json()["experiments"]
        return [each["experiment"] for each in found]

    assert names("decide", context={"age": 20}) == ["hero_copy"]
    assert names("page", context={"age": 20}) == ["hero_copy", "adults"]
    assert names("page", headers={"sec-gpc": "1"}) == ["hero_copy"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"customer_id": None}, (400, "invalid_request", "customer_id")),
        ({"placement": "cellar"}, (422, "unknown_placement", "placement")),
        ({"experiments": ["hero_copy", "boat"]}, (422, "unknown_experiment", "experiments[1]")),
        ({"experiments": []}, (400, "invalid_request", "experiments")),
        ({"limit": 1}, (400, "invalid_request", None)),
        ({"market": "fr"}, (400, "invalid_request", "market")),
        ({"context": {"age": "old"}}, (400, "invalid_request", "context.age")),
        ({"context": {"page": "x" * 300_000}}, (413, "body_too_large", None)),
    ],
)
def test_what_is_wrong_is_a_problem_that_says_where(
    site: Site, body: dict[str, Any], expected: tuple[int, str, str | None]
) -> None:
    assert problem(ask(site, **body)) == expected


def test_who_may_ask_and_for_which_market(site: Site) -> None:
    assert problem(ask(site, None))[:2] == (401, "unauthorized")
    assert problem(ask(site, "till"))[:2] == (403, "forbidden")
    german = content(market="de", placements=PLACES, experiments=(MAIL,))
    site.shop.engine.release = Release({"global": content(), "de": german}, version="sha256:two")
    assert [each["experiment"] for each in ask(site, "german").json()["experiments"]] == ["mail"]
    assert problem(ask(site, "german", market="global")) == (403, "forbidden", "market")
    assert ask(site, market="de").json()["experiments"] == ask(site, "german").json()["experiments"]


def test_a_store_that_is_away_is_said(site: Site) -> None:
    site.shop.hot_state.down = True
    answer = ask(site)
    assert (*problem(answer)[:2], answer.headers["retry-after"]) == (503, "store_unavailable", "1")


def test_that_a_customer_met_a_variant_is_told_and_kept_as_an_event(site: Site) -> None:
    met = {"experiment_id": "hero_copy", "variation_id": "b"}
    body = {"userId": "c-1", "messageId": "m-1", "event": "Experiment Viewed", "properties": met}
    assert site.call("POST", "/v1/track", "till", json=body).json()["results"][0]["status"] == "accepted"
    [(kept, _)] = site.shop.ledger.events.values()
    assert (kept.name, kept.customer_id, kept.properties) == ("experiment_viewed", "c-1", met)
    assert "experiment_viewed" in site.shop.engine.release.vocabulary.names, "a name that is known"


def test_the_documents_example_is_answered(site: Site) -> None:
    host = TestClient(site.app, base_url="http://shop.example", client=("203.0.113.9", 5000))
    document = host.get("/v1/openapi.json").json()["paths"]["/v1/assignments"]["post"]
    example = document["requestBody"]["content"]["application/json"]["example"]
    answered = ask(site, **example)
    assert answered.status_code == 200
    assert answered.json().keys() == document["responses"]["200"]["content"]["application/json"]["example"].keys()
