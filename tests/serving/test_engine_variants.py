"""A variant that says which model scores: the challenger is the model in the shadow."""

from typing import Any

import pytest

from decisioning.content_types import NO_ACTION
from decisioning.experiment_content import Variant
from decisioning.record import DecisionRecord
from decisioning.replay import replay
from decisioning.trial import Trial
from tests.builders import action, catalog, experiment
from tests.fakes import FakeScorer
from tests.serving.test_engine import Shop

OPPOSITE = {"card": 0.05, "loan": 0.2, NO_ACTION: 0.4}
MODELS = experiment(variants=(Variant(id="a", model="champion"), Variant(id="b", model="challenger")))


def challenger() -> FakeScorer:
    scorer = FakeScorer(OPPOSITE)
    scorer.sha256 = "2" * 64
    return scorer


def decided(variant: str, shadow: FakeScorer | None, shop: Shop | None = None, **fields: Any) -> DecisionRecord:
    shop = shop or Shop(catalog(experiments=(MODELS,)))
    shop.engine.shadow = shadow
    units = (f"c-{number}" for number in range(100))
    unit = next(unit for unit in units if (lot := Trial(MODELS).lot(unit)) and lot.variant.id == variant)
    record = shop.decide(**({"customer_id": unit} | fields))
    assert [each.variant for each in record.assignments] == [variant]
    return record


def scored_by(record: DecisionRecord) -> str:
    assert record.model is not None
    return record.model.bundle_sha256[0]


def propensities(record: DecisionRecord) -> dict[str, float | None]:
    return {each.action_id: each.propensity for each in record.candidates}


def test_the_challenger_scores_in_its_variant_and_the_record_names_it() -> None:
    record = decided("b", challenger())
    assert propensities(record) == pytest.approx(OPPOSITE)
    assert scored_by(record) == "2"
    assert record.shadow is None  # it decides, so it is nobody's shadow


def test_the_champion_scores_in_the_other_variant_and_the_challenger_is_its_shadow() -> None:
    record = decided("a", challenger())
    assert propensities(record) == pytest.approx(FakeScorer().propensities)
    assert scored_by(record) == "1"
    assert record.shadow is not None


def test_without_a_shadow_the_champion_decides_and_the_record_says_so() -> None:
    record = decided("b", None)
    assert propensities(record) == pytest.approx(FakeScorer().propensities)
    assert scored_by(record) == "1"


def test_each_placement_of_a_request_has_the_model_of_its_own_variant() -> None:
    there = experiment(id="models", placements=("newsletter",), variants=(Variant(id="b", model="challenger"),))
    shop = Shop(catalog(action("card"), action("loan", group="loans"), action(NO_ACTION), experiments=(there,)))
    shop.engine.shadow = challenger()
    assert scored_by(shop.decide(placement="newsletter")) == "2"
    assert scored_by(shop.decide(placement="home_hero")) == "1"


def test_a_decision_of_the_challenger_comes_out_again() -> None:
    shop = Shop(catalog(experiments=(MODELS,)))
    record = decided("b", challenger(), shop, decision_id="d-1")
    assert replay(record, shop.engine.release.blueprint, key=b"0123456789abcdef").verdict == "identical"
