"""A challenger scores what another model decides, and changes nothing of it."""

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.bundle import Scored
from decisioning.content_types import NO_ACTION
from decisioning.record import DecisionRecord
from tests.builders import catalog
from tests.fakes import FakeScorer
from tests.serving.test_engine import Shop

OPPOSITE = {"card": 0.05, "loan": 0.2, NO_ACTION: 0.4}


class Failing(FakeScorer):
    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        raise RuntimeError("a graph that cannot score")


class NotNumbers(FakeScorer):
    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        return Scored(np.full(len(rows), np.nan, dtype=np.float32))


class TooFew(FakeScorer):
    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        return Scored(np.array([0.1], dtype=np.float32))


def decided(shadow: FakeScorer | None, shop: Shop | None = None, **fields: Any) -> DecisionRecord:
    shop = shop or Shop(catalog())
    shop.engine.shadow = shadow
    return shop.decide(**({"decision_id": "d-1"} | fields))


def without_shadow(record: DecisionRecord) -> DecisionRecord:
    return msgspec.structs.replace(record, shadow=None)


def test_the_record_has_what_the_challenger_says_of_the_same_candidates() -> None:
    record = decided(FakeScorer(OPPOSITE))
    assert record.shadow is not None
    by_action = dict(zip([c.action_id for c in record.candidates], record.shadow.propensities, strict=True))
    assert by_action == pytest.approx(OPPOSITE)
    assert sum(record.shadow.probabilities) == pytest.approx(1.0)
    assert record.shadow.model.version == "7"


@pytest.mark.parametrize("shadow", [FakeScorer(OPPOSITE), Failing(), NotNumbers(), TooFew()])
def test_a_shadow_changes_nothing_of_a_decision_whatever_it_does(shadow: FakeScorer) -> None:
    assert without_shadow(decided(shadow)) == decided(None)


@pytest.mark.parametrize("shadow", [Failing(), NotNumbers(), TooFew()])
def test_a_shadow_that_fails_is_counted_and_named(shadow: FakeScorer) -> None:
    shop, told = Shop(), []
    shop.engine.on_shadow = told.append
    assert decided(shadow, shop).shadow is None
    assert told == ["failed"]
    assert shop.engine.shadow_problem


def test_a_shadow_that_scores_is_counted_and_the_next_one_begins_without_a_problem() -> None:
    shop, told = Shop(), []
    shop.engine.on_shadow = told.append
    decided(Failing(), shop)
    decided(FakeScorer(OPPOSITE), shop, decision_id="d-2")
    assert told == ["failed", "scored"]
    assert shop.engine.shadow_problem is None


def test_a_preview_asks_no_shadow() -> None:
    shop, told = Shop(), []
    shop.engine.on_shadow = told.append
    assert decided(FakeScorer(), shop, mode="preview").shadow is None
    assert told == []
