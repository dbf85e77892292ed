"""The graph agrees with the model it came from, or is refused."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper
from scipy.special import logit

from decisioning.bundle import Manifest, ModelFeature, pack
from decisioning.errors import BundleError
from serving.adapters.onnx_scorer import OnnxScorer
from tests.training.opposed_shop import opposed_catalog, opposed_shop
from tests.training.tiny_shop import NOW, tiny_catalog, tiny_examples
from training.calibration import Calibration
from training.export import OneGraph, build_manifest, check_parity, export_graph
from training.graph_scorer import GraphScorer, verified_scorer
from training.probe import PROBE_ROWS, synthetic_rows, thresholds
from training.propensity import PropensityModel, fit_propensity
from training.uplift import UpliftModel, fit_uplift


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(3000)


@pytest.fixture(scope="module")
def model(examples: pd.DataFrame) -> PropensityModel:
    return fit_propensity(examples, tiny_catalog(), seed=1)[0]


@pytest.fixture(scope="module")
def graph(model: PropensityModel) -> bytes:
    return export_graph(model)


def manifest(model: PropensityModel, graph: bytes, **overrides: Any) -> Manifest:
    known: dict[str, Any] = {
        "domain": "tiny", "name": "tiny-propensity", "version": "1", "run_id": "r", "data_sha256": "d",
        "git_commit": "c", "now": NOW, "rng": np.random.default_rng(0),
    }  # fmt: skip
    return build_manifest(model, graph, **(known | overrides))


def rows_of(model: PropensityModel) -> np.ndarray:
    cuts = thresholds([model.booster], len(model.features))
    return synthetic_rows(model.features, cuts, rng=np.random.default_rng(0))


def with_constant(graph: bytes, name: str, value: float) -> bytes:
    changed = onnx.load_from_string(graph)
    for constant in changed.graph.initializer:
        if constant.name == name:
            constant.CopyFrom(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
    return changed.SerializeToString()


def with_thresholds_moved(graph: bytes, by: float, *, of: str = "TreeEnsembleClassifier") -> bytes:
    changed = onnx.load_from_string(graph)
    trees = next(node for node in changed.graph.node if node.op_type == of)
    values = next(attribute for attribute in trees.attribute if attribute.name == "nodes_values")
    values.floats[:] = [value + by for value in values.floats]
    return changed.SerializeToString()


def test_the_graph_agrees_on_every_edge_of_the_trees(model: PropensityModel, graph: bytes) -> None:
    rows = rows_of(model)
    assert np.abs(GraphScorer(graph).score(rows).propensity - model.propensities(rows)).max() < 1e-6


def test_the_graph_agrees_where_numbers_are_cut_at_nothing(examples: pd.DataFrame) -> None:
    balance = np.random.default_rng(3).normal(size=len(examples)).round(1)
    told = examples.assign(**{"customer.balance": balance, "success": (balance < 0.0).astype(int)})
    model = fit_propensity(told, tiny_catalog(), seed=1)[0]
    graph = export_graph(model)
    edges = np.repeat(rows_of(model)[:1], 6, axis=0)
    place = [feature.name for feature in model.features].index("balance")
    edges[:, place] = [-1.0, -2e-35, -1e-35, 0.0, 1e-35, 2e-35]
    assert np.abs(GraphScorer(graph).score(edges).propensity - model.propensities(edges)).max() < 1e-6
    assert np.ptp(model.propensities(edges)) > 0.5  # it is cut there


def test_a_steep_calibration_costs_the_graph_no_digits(model: PropensityModel) -> None:
    rows = rows_of(model)
    slope = 100.0
    middle = float(np.median(logit(np.asarray(model.booster.predict(rows)))))
    steep = replace(model, calibration=Calibration(slope, -slope * middle))
    assert np.abs(GraphScorer(export_graph(steep)).score(rows).propensity - steep.propensities(rows)).max() < 5e-6


def test_the_probe_meets_every_edge(model: PropensityModel) -> None:
    rows = rows_of(model)
    for place, (feature, cuts) in enumerate(
        zip(model.features, thresholds([model.booster], len(model.features)), strict=True)
    ):
        column = set(rows[:, place][~np.isnan(rows[:, place])].tolist())
        assert np.isnan(rows[:, place]).any(), feature.name
        if feature.kind == "category":
            assert column == set(map(float, range(len(feature.categories) + 1))), feature.name
        else:
            edges = [cuts, np.nextafter(cuts, np.float32(-np.inf)), np.nextafter(cuts, np.float32(np.inf))]
            assert {np.inf, -np.inf, *np.concatenate(edges).tolist()} <= column, feature.name


def test_a_cut_at_the_end_of_all_numbers_leaves_ordinary_ones_to_be_tried() -> None:
    hours = (ModelFeature("hours_since_contact", "history", "number"),)
    cuts = [np.array([3.0, 9.0, np.finfo(np.float32).max], dtype=np.float32)]
    rows = synthetic_rows(hours, cuts, rng=np.random.default_rng(0))
    assert ((rows > 3.5) & (rows < 8.5)).sum() > 20
    assert set(cuts[0].tolist()) <= set(rows[:, 0].tolist())


def test_a_calibration_that_differs_is_refused(model: PropensityModel, graph: bytes) -> None:
    wrong = with_constant(graph, "intercept", model.calibration.intercept + 0.01)
    with pytest.raises(BundleError, match=r"the ONNX graph differs from the model on .* propensity of the graph"):
        manifest(model, wrong)


def test_thresholds_off_by_a_hair_are_refused(model: PropensityModel, graph: bytes) -> None:
    with pytest.raises(BundleError, match="differs from the model on"):
        manifest(model, with_thresholds_moved(graph, 1e-4))


@pytest.fixture(scope="module")
def both() -> tuple[PropensityModel, UpliftModel]:
    examples, shop = opposed_shop(3000).examples, opposed_catalog()
    model = fit_propensity(examples, shop, seed=1)[0]
    return model, fit_uplift(examples, model.features, shop, seed=1)


def test_one_graph_gives_propensity_and_uplift(both: tuple[PropensityModel, UpliftModel]) -> None:
    model, uplift = both
    graph = export_graph(model, uplift)
    built = manifest(OneGraph(model, uplift), graph)
    assert built.outputs == ("propensity", "uplift")
    assert built.expected_scores.shape == (2, PROBE_ROWS)
    cuts = thresholds([model.booster, uplift.booster], len(model.features))
    rows = synthetic_rows(model.features, cuts, rng=np.random.default_rng(3))
    for scorer in (verified_scorer(pack(built, graph)[1]), OnnxScorer(pack(built, graph)[1])):
        found = scorer.score(rows)
        assert found.uplift is not None
        assert np.abs(found.propensity - model.propensities(rows)).max() < 1e-6
        assert np.abs(found.uplift - uplift.uplifts(rows)).max() < 1e-6
    assert np.ptp(uplift.uplifts(rows)) > 0.1


def test_uplift_that_differs_is_refused(both: tuple[PropensityModel, UpliftModel]) -> None:
    model, uplift = both
    moved = with_thresholds_moved(export_graph(model, uplift), 1e-4, of="TreeEnsembleRegressor")
    with pytest.raises(BundleError, match=r"the ONNX graph differs from the model on .*: uplift of the graph"):
        manifest(OneGraph(model, uplift), moved)


def test_a_graph_of_another_model_is_refused(examples: pd.DataFrame, model: PropensityModel) -> None:
    other = fit_propensity(examples, tiny_catalog(), seed=2)[0]
    with pytest.raises(BundleError, match="differs"):
        check_parity(export_graph(other), model, rows_of(model))


def test_scores_that_are_no_numbers_are_refused(model: PropensityModel, graph: bytes) -> None:
    with pytest.raises(BundleError, match="differs"):
        check_parity(with_constant(graph, "slope", float("nan")), model, rows_of(model))


def test_bytes_that_are_no_graph_are_refused(model: PropensityModel) -> None:
    with pytest.raises(BundleError, match="cannot read the graph"):
        check_parity(b"no graph", model, rows_of(model))


def test_a_bundle_scores_its_probe_as_it_was_built(model: PropensityModel, graph: bytes) -> None:
    built = manifest(model, graph)
    assert built.probe_rows.shape == (PROBE_ROWS, len(model.features))
    assert built.trained_until == model.split.trained_until
    scorer = verified_scorer(pack(built, graph)[1])
    np.testing.assert_allclose(
        scorer.score(built.probe_rows).propensity, model.propensities(built.probe_rows), atol=1e-6
    )


def test_a_changed_graph_fails_its_probe(model: PropensityModel, graph: bytes) -> None:
    bundle = pack(manifest(model, graph), with_constant(graph, "intercept", 1.0))[1]
    with pytest.raises(BundleError, match="probe of model 1 differs"):
        verified_scorer(bundle)


def test_a_changed_probe_fails_too(model: PropensityModel, graph: bytes) -> None:
    built = manifest(model, graph)
    scores = built.expected_scores + 0.001
    tampered = msgspec.structs.replace(built, probe_scores=scores.tobytes())
    with pytest.raises(BundleError, match="probe"):
        verified_scorer(pack(tampered, graph)[1])


def test_the_graph_takes_any_number_of_rows(model: PropensityModel, graph: bytes) -> None:
    scorer, rows = GraphScorer(graph), rows_of(model)
    assert [scorer.score(rows[:n]).propensity.shape for n in (0, 1, 7)] == [(0,), (1,), (7,)]


def test_a_model_that_found_nothing_can_be_exported() -> None:
    rng = np.random.default_rng(0)
    noise = tiny_examples(1500, success=rng.integers(0, 2, 1500))
    found_nothing = fit_propensity(noise, tiny_catalog(), seed=1)[0]
    built = manifest(found_nothing, export_graph(found_nothing))
    assert np.ptp(built.expected_scores) < 0.5


def test_times_are_exported_as_seconds_since_a_base() -> None:
    joined = pd.to_datetime(np.random.default_rng(0).integers(0, 10**9, 1500), unit="s", utc=True)
    examples = tiny_examples(1500, **{"customer.joined": joined})
    dated = fit_propensity(examples, tiny_catalog(), seed=1)[0]
    first = joined[: dated.split.train.stop].min().normalize().to_pydatetime()
    assert ModelFeature("joined", "customer", "time", base=first) in dated.features
    manifest(dated, export_graph(dated))
