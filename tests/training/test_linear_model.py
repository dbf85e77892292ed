"""What a linear model of the tiny shop must have learnt, how sure it is, and that its graph says the same."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper

from decisioning.bundle import Manifest, ModelFeature, pack
from decisioning.errors import BundleError, DataError
from tests.builders import action
from tests.training.tiny_shop import NOW, tiny_catalog, tiny_examples
from training.calibration import Calibration
from training.export import build_manifest, check_parity
from training.graph_scorer import GraphScorer, verified_scorer
from training.linear_export import export_linear
from training.linear_input import FURTHEST, LinearInput, learn_input
from training.linear_model import LinearModel, fit_linear
from training.model_input import encode_shown
from training.model_quality import quality
from training.probe import synthetic_rows

NEW = action("raincoat", group="cards", value=10.0, attributes={"fits": "wet", "price": 20.0})
CATALOG = tiny_catalog(NEW)


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(6000)


@pytest.fixture(scope="module")
def model(examples: pd.DataFrame) -> LinearModel:
    return fit_linear(examples, CATALOG, seed=1)[0]


@pytest.fixture(scope="module")
def graph(model: LinearModel) -> bytes:
    return export_linear(model)


def edge_rows(model: LinearModel) -> np.ndarray:
    """Every edge, and numbers beyond what anyone has."""
    rows = synthetic_rows(model.features, model.edges, rng=np.random.default_rng(0))
    numbers = [place for place, feature in enumerate(model.features) if feature.kind != "category"]
    huge = rows[: 5 * len(numbers)].copy()
    for row, (place, value) in enumerate((p, v) for p in numbers for v in (3e38, -3e38, 1e9, 1e-40, -0.0)):
        huge[row, place] = value
    return np.concatenate([rows, huge])


def asked(model: LinearModel, examples: pd.DataFrame, **changes: Any) -> np.ndarray:
    changed = examples.tail(500).reset_index(drop=True).assign(contacts=[()] * 500, **changes)
    return encode_shown(model.features, changed, CATALOG)


def mean_propensity(model: LinearModel, examples: pd.DataFrame, **changes: Any) -> float:
    return float(model.propensities(asked(model, examples, **changes)).mean())


def mean_sd(model: LinearModel, examples: pd.DataFrame, **changes: Any) -> float:
    return float(np.mean(model.scored(asked(model, examples, **changes)).sd))


def manifest(model: LinearModel, graph: bytes) -> Manifest:
    return build_manifest(
        model, graph, domain="tiny", name="tiny-propensity", version="1", run_id="r", data_sha256="d", git_commit="c",
        now=NOW, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_it_predicts_better_than_the_base_rate_and_is_calibrated(examples: pd.DataFrame, model: LinearModel) -> None:
    test = examples.iloc[model.split.test]
    propensities = model.propensities(encode_shown(model.features, test, CATALOG))
    found = quality(propensities, test["success"].to_numpy(), base_rate=examples["success"].mean())
    assert found["log_loss"] < 0.9 * found["base_rate_log_loss"]
    assert found["auc"] > 0.75
    assert found["calibration_error"] < 0.05


def test_the_right_action_in_the_right_weather_is_likelier(examples: pd.DataFrame, model: LinearModel) -> None:
    rain = {"context": [{"weather": "rain"}] * 500}
    umbrella = mean_propensity(model, examples, action_id="umbrella", **rain)
    assert umbrella > 4 * mean_propensity(model, examples, action_id="sunglasses", **rain)


def test_a_new_action_starts_from_what_its_like_earn_with_more_doubt(
    examples: pd.DataFrame, model: LinearModel
) -> None:
    rain = {"context": [{"weather": "rain"}] * 500}
    new, wrong = (mean_propensity(model, examples, action_id=name, **rain) for name in ("raincoat", "sunglasses"))
    assert "raincoat" not in model.actions
    assert new > 1.5 * wrong
    doubt = {name: mean_sd(model, examples, action_id=name, **rain) for name in ("raincoat", "umbrella")}
    assert doubt["raincoat"] > 1.5 * doubt["umbrella"]


def test_doubt_shrinks_with_rows(examples: pd.DataFrame, model: LinearModel) -> None:
    fewer = fit_linear(tiny_examples(750), CATALOG, seed=1)[0]
    few, many = (mean_sd(each, examples, action_id="umbrella") / each.sd_factor for each in (fewer, model))
    assert 1.5 * many < few


def test_its_doubt_is_about_right() -> None:
    """Models of 30 independent logs differ from each other by about what each says."""
    examples = tiny_examples(1500, seed=99)
    fitted = [fit_linear(tiny_examples(1500, seed=seed), CATALOG, seed=1)[0] for seed in range(30)]
    [said] = {each.features[each.action_place].categories for each in fitted}
    assert len(said) == 3
    found = [each.uncalibrated(asked(each, examples, action_id="umbrella")) for each in fitted]
    scatter = np.std([log_odds for log_odds, _ in found], axis=0)
    doubt = np.mean([sd for _, sd in found], axis=0)
    assert 0.7 < np.median(doubt / scatter) < 1.6


def test_the_test_slice_has_no_part_in_the_model(examples: pd.DataFrame, model: LinearModel) -> None:
    scrambled = examples.copy()
    later = scrambled.index[model.split.test]
    scrambled.loc[later, "success"] = 1 - scrambled.loc[later, "success"]
    scrambled.loc[later, "customer.age"] = 1e6
    again = fit_linear(scrambled, CATALOG, seed=1)[0]
    np.testing.assert_array_equal(again.weights.mean, model.weights.mean)
    assert again.calibration == model.calibration


def test_the_graph_says_what_the_model_says_on_every_edge(model: LinearModel, graph: bytes) -> None:
    rows = edge_rows(model)
    assert not np.isfinite(rows).all()
    known = (rows[:, model.action_place] >= 0) & (rows[:, model.action_place] < len(model.actions))
    assert 0 < known.mean() < 1, "actions that were met and others"
    given, wanted = GraphScorer(graph, model.outputs).score(rows), model.scored(rows)
    assert given.sd is not None
    assert wanted.sd is not None
    np.testing.assert_allclose(given.propensity, wanted.propensity, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(given.sd, wanted.sd, rtol=0.0, atol=5e-6)
    assert (given.propensity > 0.0).all()
    assert (given.propensity < 1.0).all()
    assert (given.sd > 0.0).all()


def test_the_graph_takes_any_number_of_rows(model: LinearModel, graph: bytes) -> None:
    scorer, rows = GraphScorer(graph, model.outputs), edge_rows(model)
    for n in (0, 1, 7):
        scored = scorer.score(rows[:n])
        assert scored.sd is not None
        assert (scored.propensity.shape, scored.sd.shape) == ((n,), (n,))


def test_a_row_alone_scores_as_it_does_among_others(model: LinearModel, graph: bytes) -> None:
    scorer, rows = GraphScorer(graph, model.outputs), edge_rows(model)[:64]
    alone = [scorer.score(row[None]) for row in rows]
    together = scorer.score(rows)
    assert together.sd is not None
    np.testing.assert_allclose([each.propensity[0] for each in alone], together.propensity, atol=1e-6)
    np.testing.assert_allclose([each.sd[0] for each in alone if each.sd is not None], together.sd, atol=5e-6)


@pytest.mark.parametrize("output", ["propensity", "sd"])
def test_a_graph_that_differs_in_either_output_is_refused(model: LinearModel, output: str) -> None:
    other = (
        replace(model, base=model.base + 0.01)
        if output == "propensity"
        else replace(model, weights=replace(model.weights, factor=1.001 * model.weights.factor))
    )
    with pytest.raises(BundleError, match=f"{output} of the graph"):
        manifest(model, export_linear(other))


def test_a_bundle_carries_both_outputs_and_is_verified(model: LinearModel, graph: bytes) -> None:
    built = manifest(model, graph)
    assert (built.learner, built.outputs) == ("linear", ("propensity", "sd"))
    verified_scorer(pack(built, graph)[1])
    broken = onnx.load_from_string(graph)
    for constant in broken.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.shape == model.weights.factor.shape:
            constant.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), constant.name))
    with pytest.raises(BundleError, match="probe"):
        verified_scorer(pack(built, broken.SerializeToString())[1])


def test_a_calibration_that_makes_all_alike_takes_no_doubt_away(examples: pd.DataFrame, model: LinearModel) -> None:
    flat = replace(model, calibration=Calibration(slope=0.0, intercept=-2.0))
    rows = asked(model, examples)
    assert np.ptp(flat.propensities(rows)) == 0.0
    assert (np.asarray(flat.scored(rows).sd) > 0.0).all()
    check_parity(export_linear(flat), flat, edge_rows(flat))


def test_without_an_action_met_often_it_says_so(examples: pd.DataFrame) -> None:
    rare = examples.head(600).assign(action_id=[("umbrella", "sunglasses")[n % 2] for n in range(600)])
    many = tiny_catalog(*(action(f"a{n}") for n in range(100)))
    spread = rare.assign(action_id=[f"a{n % 100}" for n in range(600)])
    with pytest.raises(DataError, match="no action was met often enough"):
        fit_linear(spread, many, seed=1)


def test_columns_are_numbers_levels_and_gaps() -> None:
    features = (
        ModelFeature("age", "customer", "number"),
        ModelFeature("colour", "customer", "category", ("blue", "red")),
        ModelFeature("rare", "customer", "category", ("x",)),
    )
    n = 1000
    rows = np.zeros((n, 3), dtype=np.float32)
    rows[:, 0] = np.linspace(20.0, 60.0, n)
    rows[:100, 0] = np.nan
    rows[:, 1] = np.arange(n) % 3 == 0  # blue is the most frequent
    rows[:300, 1] = 2
    rows[:5, 2] = 1
    learnt = learn_input(features, rows, range(3), most=10)
    assert learnt.names == ("1", "age", "age unknown", "colour=red", "colour=other")
    assert learn_input(features, rows, range(3), most=3).names[1] == "age"


def test_one_slip_of_the_keyboard_moves_no_scale() -> None:
    features = (ModelFeature("age", "customer", "number"),)
    rows = np.linspace(20.0, 60.0, 2000, dtype=np.float32)[:, None]
    usual = learn_input(features, rows, [0], most=2).columns[0]
    rows[0] = 3e38
    slipped = learn_input(features, rows, [0], most=2)
    assert slipped.columns[0].scale == pytest.approx(usual.scale, rel=0.01)
    assert slipped.of(rows)[0, 1] == FURTHEST


def test_a_column_that_never_varies_is_none() -> None:
    rows = np.full((100, 1), 7.0, dtype=np.float32)
    assert learn_input((ModelFeature("slot", "context", "number"),), rows, [0], most=9) == LinearInput(())
