"""From training to decisions: a linear model's doubt is what Thompson sampling explores by."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from decisioning.catalog import Catalog, Release
from decisioning.content_types import BLUEPRINT
from decisioning.exploration import Thompson
from decisioning.record import DecisionRecord
from decisioning.replay import replay
from serving.adapters.onnx_scorer import OnnxScorer
from serving.engine import DrawKey, Engine
from storage.settings import Settings
from tests.builders import CONSENTED, action, placement, request
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger
from tests.training.tiny_shop import NOW, VALUE, tiny_catalog, tiny_examples
from training.training_run import train

KEY = DrawKey(b"0123456789abcdef")
THOMPSON = placement(slots=1, shown_by="decision", reward={"purchase": "value"}, exploration=Thompson())
RAINCOAT = action("raincoat", group="cards", value=VALUE, attributes={"fits": "wet", "price": 20.0})


def decided(scorer: OnnxScorer, shop: Catalog, count: int = 40, *, weather: str = "rain") -> list[DecisionRecord]:
    """What customers of all ages get in this weather."""
    people = {f"c-{n}": {"age": 20.0 + n % 50, "colour": "red"} for n in range(count)}
    features = FakeFeatures(people)
    features.names = frozenset({"age", "colour", "account_id"})
    engine = Engine(
        release=Release({BLUEPRINT: shop.content}, version="sha256:test"),
        features=features,
        hot_state=FakeHotState(CONSENTED),
        ledger=FakeLedger(),
        scorer=scorer,
        draw_key=KEY,
    )

    async def ask() -> list[DecisionRecord]:
        asked = [request(customer_id=name, decision_id=f"d-{name}", context={"weather": weather}) for name in people]
        return [await engine.decide(each, now=NOW) for each in asked]

    return asyncio.run(ask())


def chances(records: list[DecisionRecord], action_id: str) -> np.ndarray:
    return np.array([c.weight for record in records for c in record.candidates if c.action_id == action_id])


@pytest.fixture(scope="module")
def shop() -> Catalog:
    return tiny_catalog(placements=(THOMPSON,))


def linear(n: int, shop: Catalog) -> OnnxScorer:
    settings = Settings(home=Path("unused"), domain="tiny")
    return OnnxScorer(train(tiny_examples(n), settings, catalog=shop, now=NOW, learner="linear", register=False).bundle)


@pytest.fixture(scope="module")
def learnt(shop: Catalog) -> OnnxScorer:
    return linear(6000, shop)


def test_doubt_shares_the_choice_and_shrinks_with_what_was_learnt(shop: Catalog, learnt: OnnxScorer) -> None:
    few, many = (chances(decided(scorer, shop), "sunglasses") for scorer in (linear(600, shop), learnt))
    assert len(few) == 40
    assert 0.001 < few.mean() < 0.4, "the wrong action is still tried, the less the more is known"
    assert many.mean() < 0.5 * few.mean()
    assert chances(decided(learnt, shop), "umbrella").mean() > 0.9


def test_the_record_holds_the_doubt_and_replays_to_the_bit(shop: Catalog, learnt: OnnxScorer) -> None:
    for record in decided(learnt, shop, count=10):
        assert record.policy.policy == "thompson"
        assert all(candidate.sd > 0.0 for candidate in record.candidates)
        assert replay(record, shop, key=KEY.secret).identical


def test_an_action_that_was_added_after_training_gets_its_chance(learnt: OnnxScorer) -> None:
    records = decided(learnt, tiny_catalog(RAINCOAT, placements=(THOMPSON,)))
    tried, known_to_be_worse = (chances(records, name).mean() for name in ("raincoat", "sunglasses"))
    assert tried > 0.01, "it is a little like the umbrella, and nobody knows how much"
    assert tried > 5 * known_to_be_worse
    doubt = {name: np.mean([c.sd for r in records for c in r.candidates if c.action_id == name])
             for name in ("raincoat", "umbrella")}  # fmt: skip
    assert doubt["raincoat"] > 1.5 * doubt["umbrella"]
