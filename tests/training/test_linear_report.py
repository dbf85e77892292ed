"""A linear model's run: the same life as that of trees, and what it shows beside."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from decisioning.errors import SetupError
from storage.settings import Settings
from tests.training.tiny_shop import NOW, VALUE, tiny_catalog, tiny_examples
from training.evaluation_run import evaluate_run
from training.graph_scorer import GraphScorer
from training.linear_model import LinearModel
from training.linear_report import learning_curve, progressive, snapshot
from training.model_input import encode_shown
from training.promotion import promote
from training.tracking import CHALLENGER, Tracking
from training.training_run import TrainedModel, train

CATALOG = tiny_catalog()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), domain="tiny")


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(4000)


@pytest.fixture(scope="module")
def trained(settings: Settings, examples: pd.DataFrame) -> TrainedModel:
    return train(examples, settings, catalog=CATALOG, now=NOW, learner="linear")


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> LinearModel:
    assert isinstance(trained.model, LinearModel)
    return trained.model


@pytest.fixture(scope="module")
def rows(model: LinearModel, examples: pd.DataFrame) -> np.ndarray:
    return encode_shown(model.features, examples, CATALOG)


def test_a_run_holds_what_is_needed_to_judge_its_model(settings: Settings, trained: TrainedModel) -> None:
    client = Tracking(settings).client
    run = client.get_run(trained.run_id)
    assert run.data.params["learner"] == "linear"
    assert {"test_log_loss", "curve/log_loss", "progressive/thompson", "value/regret/low"} <= set(run.data.metrics)
    kept = {item.path for folder in (None, "figures") for item in client.list_artifacts(trained.run_id, folder)}
    assert {"model_card.md", "posterior.csv", "progressive.json"} <= kept
    assert {"figures/posterior.png", "figures/learning_curve.png", "figures/progressive.png"} <= kept
    assert [point.step for point in client.get_metric_history(trained.run_id, "curve/log_loss")] == [
        326, 652, 1305, 2610,
    ]  # fmt: skip


def test_the_registered_graph_is_the_bundles(settings: Settings, trained: TrainedModel) -> None:
    mlflow.set_tracking_uri(settings.mlflow_uri)
    registered = mlflow.onnx.load_model(f"models:/tiny-propensity/{trained.version}")
    manifest = trained.bundle.manifest
    scored = GraphScorer(registered.SerializeToString(), manifest.outputs).score(manifest.probe_rows)
    np.testing.assert_allclose([scored.propensity, scored.sd], manifest.expected_scores, atol=1e-6)


def test_it_is_evaluated_and_promoted_like_any(
    settings: Settings, trained: TrainedModel, examples: pd.DataFrame
) -> None:
    challenger = Tracking(settings).version_by_alias("tiny", CHALLENGER)
    assert challenger is not None
    assert challenger.bundle_sha256 == trained.bundle.sha256
    report = evaluate_run(examples, settings, catalog=CATALOG, now=NOW)
    over = report.difference("uniform")
    assert over is not None
    assert over.low > 0.0
    assert promote(examples, settings, catalog=CATALOG, now=NOW, report=report).changed


def test_the_snapshot_says_what_is_believed_of_the_average_customer(model: LinearModel, rows: np.ndarray) -> None:
    believed = snapshot(model, rows).set_index("action_id")
    assert set(believed.index) == {"umbrella", "sunglasses", "no_action"}
    assert believed["rows"].sum() == model.split.valid.stop
    assert believed.loc["no_action", "propensity"] == believed["propensity"].min()
    assert ((believed["low"] < believed["propensity"]) & (believed["propensity"] < believed["high"])).all()


def test_more_rows_predict_better(model: LinearModel, rows: np.ndarray, examples: pd.DataFrame) -> None:
    curve = learning_curve(model, rows, examples["success"].to_numpy(dtype=np.int64), seed=1)
    assert [n for n, _ in curve] == [326, 652, 1305, 2610]
    assert curve[-1][1]["log_loss"] < curve[0][1]["log_loss"]


def test_what_it_would_have_earned_while_it_learnt_is_what_it_would_have_earned(
    model: LinearModel, rows: np.ndarray, examples: pd.DataFrame
) -> None:
    """The truth: the right action in each weather earns about .45 x (.4 + age / 100) x 10, the best constant half."""
    found = progressive(model, rows, examples, examples, CATALOG, seed=1)
    assert found is not None
    worth = VALUE * (0.4 + examples["customer.age"].mean() / 100.0)
    best, constant = 0.45 * worth, 0.25 * worth
    error = (found.thompson.high - found.thompson.low) / (2 * 1.96)
    assert 0.75 * best - 4 * error < found.thompson.value < best + 4 * error
    assert abs(found.constant.value - constant) < 0.1 * constant + 4 * error
    assert found.regret.high < 0.0, "it beat the best constant while it still learnt"
    assert found.regret.value == pytest.approx(found.constant.value - found.thompson.value)


def test_the_card_says_what_it_is(settings: Settings, trained: TrainedModel) -> None:
    note = Tracking(settings).client.get_run(trained.run_id).data.tags["mlflow.note.content"]
    assert "Bayesian linear regression per action (3 actions" in note


def test_an_unknown_learner_is_named(tmp_path: Path, examples: pd.DataFrame) -> None:
    with pytest.raises(SetupError, match="the learner is 'forest', must be one of lightgbm, linear"):
        train(examples, Settings(home=tmp_path), catalog=CATALOG, now=NOW, learner="forest")
