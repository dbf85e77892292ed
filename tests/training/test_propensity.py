"""Before training: guards against leaks. After: what a model of the tiny shop must have learnt."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from decisioning.errors import DataError
from tests.training.tiny_shop import ACTIONS, chance, tiny_catalog, tiny_examples
from training.model_input import encode_shown
from training.model_quality import quality
from training.probe import thresholds
from training.propensity import PropensityModel, fit_propensity


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(6000)


@pytest.fixture(scope="module")
def model(examples: pd.DataFrame) -> PropensityModel:
    return fit_propensity(examples, tiny_catalog(), seed=1)[0]


def mean_propensity(model: PropensityModel, examples: pd.DataFrame, **changes: object) -> float:
    changed = examples.tail(500).reset_index(drop=True).assign(**changes)
    return float(model.propensities(encode_shown(model.features, changed, tiny_catalog())).mean())


def test_the_test_slice_has_no_part_in_the_model(examples: pd.DataFrame, model: PropensityModel) -> None:
    scrambled = examples.copy()
    later = scrambled.index[model.split.test]
    scrambled.loc[later, "success"] = 1 - scrambled.loc[later, "success"]
    scrambled.loc[later, "customer.colour"] = "octarine"
    scrambled.loc[later, "customer.age"] = 1e6
    again = fit_propensity(scrambled, tiny_catalog(), seed=1)[0]
    assert again.booster.model_to_string() == model.booster.model_to_string()
    assert again.calibration == model.calibration
    assert again.features == model.features


def test_calibration_has_a_slice_of_its_own(examples: pd.DataFrame, model: PropensityModel) -> None:
    scrambled = examples.copy()
    own = scrambled.index[model.split.calibration]
    scrambled.loc[own, "success"] = 1 - scrambled.loc[own, "success"]
    again = fit_propensity(scrambled, tiny_catalog(), seed=1)[0]
    assert again.booster.model_to_string() == model.booster.model_to_string()
    assert again.calibration != model.calibration


def test_the_same_seed_gives_the_same_model(examples: pd.DataFrame, model: PropensityModel) -> None:
    again = fit_propensity(examples, tiny_catalog(), seed=1)[0]
    assert again.booster.model_to_string() == model.booster.model_to_string()


def test_no_row_is_both_learnt_from_and_judged(examples: pd.DataFrame, model: PropensityModel) -> None:
    assert examples["decided_at"].iloc[model.split.test].min() > model.split.trained_until


def test_it_predicts_better_than_the_base_rate_and_is_calibrated(
    examples: pd.DataFrame, model: PropensityModel
) -> None:
    test = examples.iloc[model.split.test]
    propensities = model.propensities(encode_shown(model.features, test, tiny_catalog()))
    found = quality(propensities, test["success"].to_numpy(), base_rate=examples["success"].mean())
    assert found["log_loss"] < 0.9 * found["base_rate_log_loss"]
    assert found["auc"] > 0.75
    assert found["calibration_error"] < 0.04


def test_the_right_action_in_the_right_weather_is_likelier(examples: pd.DataFrame, model: PropensityModel) -> None:
    rain = {"context": [{"weather": "rain"}] * 500, "contacts": [()] * 500}
    umbrella = mean_propensity(model, examples, action_id="umbrella", **rain)
    assert umbrella > 4 * mean_propensity(model, examples, action_id="sunglasses", **rain)


def test_age_helps(examples: pd.DataFrame, model: PropensityModel) -> None:
    fits = {"context": [{"weather": "rain"}] * 500, "action_id": "umbrella"}
    young, old = (mean_propensity(model, examples, **{"customer.age": age}, **fits) for age in (22.0, 68.0))
    assert old > young + 0.05


def test_a_recent_contact_tires(examples: pd.DataFrame, model: PropensityModel) -> None:
    fits = {"context": [{"weather": "rain"}] * 500, "action_id": "umbrella"}
    tail = examples.tail(500)
    seen = next(contacts for contacts in tail["contacts"] if contacts and contacts[0].action_id == "umbrella")
    at = seen[0].at
    tired = mean_propensity(model, examples, **fits, contacts=[seen] * 500, decided_at=pd.Timestamp(at))
    fresh = mean_propensity(model, examples, **fits, contacts=[()] * 500)
    assert tired < 0.6 * fresh


def test_colour_means_nothing(examples: pd.DataFrame, model: PropensityModel) -> None:
    by_colour = [mean_propensity(model, examples, **{"customer.colour": colour}) for colour in ("red", "blue", None)]
    assert np.ptp(by_colour) < 0.03


def test_a_level_never_seen_is_scored_like_any_customer(examples: pd.DataFrame, model: PropensityModel) -> None:
    unseen = mean_propensity(model, examples, **{"customer.colour": "octarine"}, context=[{"weather": "hail"}] * 500)
    assert 0.02 < unseen < 0.5


def test_every_threshold_is_a_float32(model: PropensityModel) -> None:
    cuts = [
        node["threshold"]
        for tree in model.booster.dump_model()["tree_info"]
        for node in nodes(tree["tree_structure"])
        if node["decision_type"] == "<="
    ]
    assert cuts
    assert all(float(np.float32(cut)) == cut for cut in cuts)
    assert any(len(each) for each in thresholds([model.booster], len(model.features)))


def nodes(node: dict) -> list[dict]:
    if "split_feature" not in node:
        return []
    return [node, *nodes(node["left_child"]), *nodes(node["right_child"])]


def test_a_slice_without_a_success_is_refused() -> None:
    nothing = tiny_examples(600, success=0)
    with pytest.raises(DataError, match="every example of the train slice is a failure"):
        fit_propensity(nothing, tiny_catalog(), seed=1)


def drifting(moves: float) -> pd.DataFrame:
    """A shop in which, from the last third of what is learnt from on, all log-odds are moved by so much."""
    examples = tiny_examples(6000)
    rng = np.random.default_rng(8)
    weather = examples["context"].str["weather"].to_numpy()
    worn = np.array([bool(each) for each in examples["contacts"]])
    true = np.select(
        [examples["action_id"].to_numpy() == name for name in ACTIONS],
        [chance(weather, examples["customer.age"].to_numpy(), worn, name) for name in ACTIONS],
    )
    later = np.arange(len(examples)) > 0.5 * len(examples)
    moved = expit(logit(true) + moves * later)
    return examples.assign(success=(rng.random(len(examples)) < moved).astype(int))


def test_a_base_rate_that_moved_does_not_end_learning_at_the_first_trees() -> None:
    trees, auc = {}, {}
    for moves in (0.0, 3.0):
        examples = drifting(moves)
        fitted, rows = fit_propensity(examples, tiny_catalog(), seed=1)
        test = fitted.split.test
        trees[moves] = fitted.booster.num_trees()
        auc[moves] = roc_auc_score(examples["success"].iloc[test], fitted.propensities(rows[test]))
    # Plain log loss would keep 19 trees of 165.
    assert trees[3.0] > trees[0.0] / 3
    assert auc[3.0] > auc[0.0] - 0.06
