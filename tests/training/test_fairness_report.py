"""Groups fare differently in a log that says so, and no model learns what is protected."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from decisioning.catalog import Catalog
from decisioning.catalog_checks import mistakes
from decisioning.content import Content, Fairness, FeatureTypes
from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from storage.settings import Settings
from tests.builders import NOW, action, catalog, content, record, slot
from tests.training.tiny_shop import tiny_catalog, tiny_examples
from training.closed_decisions import Closed
from training.customer_groups import OTHERS, UNKNOWN, groups_of
from training.fair_promotion import unfairness, with_fairness
from training.fairness_report import FairnessReport, fairness_report
from training.gate import Verdict
from training.model_input import learn_features
from training.training_run import train


def logged(n: int, *, south: float) -> list[Closed]:
    """Half of the customers live in the south, and are shown something that often instead of 80 %."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(n):
        region = "north" if number % 4 else "south"
        shown = rng.random() < (0.8 if region == "north" else south)
        made = record(
            decision_id=f"d-{number}",
            customer_id=f"c-{number}",
            features={"region": region, "age": float(number % 60)},
            slots=(slot(1, "card" if shown else NO_ACTION),),
        )
        found.append(Closed(made, True, float(shown and rng.random() < 0.2)))
    return found


def report(closed: list[Closed], **overrides: object) -> FairnessReport:
    options: dict = {"by": ("region",), "since": NOW, "until": NOW} | overrides
    return fairness_report([each.record for each in closed], closed, catalog(), **options)


def test_a_region_that_is_shown_less_stands_out_by_exposure_and_not_by_response() -> None:
    found = report(logged(4000, south=0.4))
    assert {each.measure for each in found.unequal} == {"exposure", "value"}
    assert {each.group for each in found.unequal} == {"south"}
    [response] = [each for each in found.ratios if each.measure == "response" and each.ratio is not None]
    assert response.low < 1.0 < response.high


def test_a_log_that_treats_all_alike_is_called_so() -> None:
    assert report(logged(4000, south=0.8)).unequal == ()


def test_exposure_is_to_what_is_good_to_get() -> None:
    closed = logged(400, south=0.4)
    assert all(
        each.value == 0.0 for each in report(closed, exposure_of=("loans",)).ratios if each.measure == "exposure"
    )
    assert report(closed, exposure_of=("cards",)).ratios[0].value > 0.0
    with pytest.raises(DataError, match="mortgages"):
        report(closed, exposure_of=("mortgages",))


def test_the_holdout_is_left_out_and_what_is_not_yet_told_has_an_exposure_alone() -> None:
    closed = logged(400, south=0.4)
    held = record(decision_id="h", customer_id="h", reason="HOLDOUT", features={"region": "north"})
    found = fairness_report(
        [held, *(each.record for each in closed)], closed[:100], catalog(), by=("region",), since=NOW, until=NOW
    )
    assert (found.decisions, found.closed) == (400, 100)


def test_a_feature_that_no_decision_has_is_refused() -> None:
    with pytest.raises(DataError, match="has a feature faith"):
        report(logged(20, south=0.4), by=("faith",))


def test_many_numbers_go_into_quarters_and_rare_words_together() -> None:
    assert len(set(groups_of([float(number) for number in range(1000)]))) == 4
    assert set(groups_of([*"abcdefghijkl" * 2, "m", None])) == {*"abcdefghijkl", OTHERS, UNKNOWN}


def protecting(*names: str, floor: float | None = None, **more: object) -> Catalog:
    return tiny_catalog(fairness=Fairness(protected=names, floor=floor), **more)


def test_no_model_learns_what_is_protected_whether_stored_or_sent() -> None:
    examples = tiny_examples(600)
    assert {"age", "weather"} <= {feature.name for feature in learn_features(examples, tiny_catalog())}
    learnt = {feature.name for feature in learn_features(examples, protecting("age", "weather"))}
    assert not {"age", "weather"} & learnt


def test_a_challenger_that_would_show_a_group_less_is_refused(tmp_path: Path) -> None:
    """It has learnt, by age, that showing nothing is best for the young."""
    examples = tiny_examples(4000)
    young = (examples["customer.age"] < 40.0).to_numpy()
    examples["customer.band"] = np.where(young, "young", "old")
    nothing = examples["action_id"] == NO_ACTION
    examples.loc[young & ~nothing, ["success", "reward"]] = 0
    examples.loc[young & nothing, ["success", "reward"]] = 1
    shop = protecting("band", floor=0.8)
    trained = train(examples, Settings(home=tmp_path), catalog=shop, now=NOW + timedelta(days=400), register=False)
    [reason] = unfairness(trained.bundle, shop, examples)
    assert reason.startswith("exposure of band 'young' is 0.")
    verdict = Verdict(against=("x",), findings=())
    assert with_fairness(verdict, trained.bundle, shop, lambda: examples).against == ("x", reason)
    assert with_fairness(verdict, trained.bundle, tiny_catalog(), lambda: examples) is verdict
    [unknown] = unfairness(trained.bundle, protecting("faith", floor=0.8), examples)
    assert "cannot be told" in unknown


def wrong(**said: object) -> list[str]:
    made: Content = content(
        action("card"), fairness=Fairness(**said), features=FeatureTypes(customer={"age": "number"})
    )
    return [each for each in mistakes(made) if each.startswith("fairness")]


def test_a_catalogue_that_protects_what_nobody_knows_is_refused() -> None:
    assert wrong(protected=("age",), exposure_of=("card", "cards"), floor=0.8) == []
    assert "'faith' is not defined" in wrong(protected=("faith",))[0]
    assert "'mortgage' is not defined" in wrong(exposure_of=("mortgage",))[0]
    assert "needs features" in wrong(floor=0.8)[0]
