"""Foretold stages in decisions: known to rules, logged with the features, null where nobody can say."""

from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature, Scored
from decisioning.content import FeatureTypes, Journey, Stage
from decisioning.foretelling import Foreteller
from decisioning.next_stage import ASKED
from decisioning.replay import replay
from tests.builders import action, catalog
from tests.fakes import FakeScorer
from tests.serving.test_engine import Shop, shown

LIFE = Journey(
    id="life",
    horizon=timedelta(days=30),
    stages=(
        Stage(id="active", name="Active", entry="customer.age != null"),
        Stage(id="lapsing", name="Lapsing"),
    ),
)
RULE = "customer.chance_of_lapsing != null && customer.chance_of_lapsing > 0.5"
FEATURES = (
    ModelFeature("age", "customer", "number"),
    ModelFeature("current_life", "context", "category", ("active", "lapsing")),
    ModelFeature(ASKED, "context", "category", ("active", "lapsing")),
)


class StageScorer(FakeScorer):
    """Who is active will be lapsing with a chance of 0.7."""

    def __init__(self, features: tuple[ModelFeature, ...] = FEATURES) -> None:
        super().__init__()
        self.manifest = msgspec.structs.replace(self.manifest, features=features, name="shop-next-stage")

    def score(self, rows: NDArray[np.float32]) -> Scored:
        self.rows = rows
        active, asked_lapsing = rows[:, 1] == 0, rows[:, 2] == 1
        return Scored(np.where(active, np.where(asked_lapsing, 0.7, 0.2), 0.0).astype(np.float32))


def foreteller(scorer: StageScorer) -> Foreteller:
    return Foreteller(scorer.manifest, scorer.score, bundle_sha256=scorer.sha256, on_failure=lambda _: None)


def shop_with(scorer: StageScorer | None, **overrides: Any) -> Shop:
    known = FeatureTypes(customer={"age": "number", "city": "text", "account_id": "text"})
    actions = (action("card", eligibility=RULE), action("loan"))
    shop = Shop(catalog(*actions, journeys=(LIFE,), features=known, personalisation="default", **overrides))
    shop.engine.foreteller = foreteller(scorer) if scorer is not None else None
    return shop


def test_a_rule_sees_what_is_foretold_and_the_record_has_it() -> None:
    shop = shop_with(StageScorer())
    record = shop.decide(limit=3)
    assert "card" in shown(record)
    assert record.features["chance_of_lapsing"] == pytest.approx(0.7)
    assert record.features["chance_of_active"] == pytest.approx(0.2)


def test_what_was_foretold_is_replayed_as_it_was() -> None:
    shop = shop_with(StageScorer())
    record = shop.decide()
    shop.engine.foreteller = None
    assert replay(record, shop.engine.release.blueprint, key=b"0123456789abcdef").identical


@pytest.mark.parametrize("why", ["no model", "unknown customer", "hot state away", "another kind"])
def test_where_nobody_can_say_the_chances_are_null_and_the_decision_stands(why: str) -> None:
    text = (ModelFeature("city", "customer", "number"), *FEATURES[1:])
    shop = shop_with({"no model": None, "another kind": StageScorer(text)}.get(why, StageScorer()))
    if why == "unknown customer":
        shop.features.customers = {}
    if why == "hot state away":
        shop.hot_state.down = True
    record = shop.decide(limit=3)
    assert "card" not in shown(record)
    assert (record.features["chance_of_lapsing"], record.features["chance_of_active"]) == (None, None)


def test_of_who_does_not_let_us_personalise_nothing_is_foretold() -> None:
    record = shop_with(StageScorer()).decide(global_privacy_control=True)
    assert not record.personal
    assert (record.features["chance_of_lapsing"], record.features["chance_of_active"]) == (None, None)


def test_a_caller_cannot_supply_what_is_foretold() -> None:
    record = shop_with(StageScorer()).decide(context={"chance_of_lapsing": 0.1})
    assert record.features["chance_of_lapsing"] == pytest.approx(0.7)


def test_a_catalogue_that_foretells_nothing_costs_no_question() -> None:
    scorer = StageScorer()
    shop = Shop(catalog(action("card"), action("loan")))
    shop.engine.foreteller = foreteller(scorer)
    assert "chance_of_lapsing" not in shop.decide().features
    assert scorer.rows is None
