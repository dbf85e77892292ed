"""On real customers: what acting on a model is worth, and that nothing is claimed that is not there."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.catalog_files import read_release
from storage.settings import Settings
from training.domains.hillstrom import Hillstrom
from training.evaluation_report import EvaluationReport, evaluate
from training.examples import combined, log_examples
from training.gate import judge
from training.training_run import TrainedModel, train

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NEXTMOVE_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA if DATA.name == "hillstrom.csv" else DATA / "hillstrom" / "hillstrom.csv"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=f"{FILE} is not there; set NEXTMOVE_DATA")


@pytest.fixture(scope="module")
def found() -> tuple[TrainedModel, EvaluationReport]:
    domain, catalog = Hillstrom(FILE), read_release(ROOT / "catalog" / "hillstrom")[1].blueprint
    log = domain.log()
    # One version of the features, older than the campaign: the point-in-time join is a plain one.
    features = domain.tables()["profile"].merge(log[["row_id", "customer_id"]], on="customer_id")
    examples = combined(log_examples(log, features, catalog))
    trained = train(examples, Settings(), catalog=catalog, now=datetime(2026, 1, 1, tzinfo=UTC), seed=1, register=False)
    return trained, evaluate(trained.bundle, examples, catalog)


def test_the_model_predicts_visits_better_than_the_base_rate(found: tuple[TrainedModel, EvaluationReport]) -> None:
    metrics = found[0].metrics
    assert metrics["log_loss"] < metrics["base_rate_log_loss"] - 0.01
    assert metrics["auc"] > 0.62
    assert metrics["calibration_error"] < 0.02


def test_acting_on_it_beats_chance_by_three_visits_in_a_hundred(found: tuple[TrainedModel, EvaluationReport]) -> None:
    over_uniform = found[1].difference("uniform", metric="success")
    assert over_uniform is not None
    assert over_uniform.value > 0.03
    assert over_uniform.low > 0.02


def test_it_is_as_good_as_mens_to_all_and_claims_no_more(found: tuple[TrainedModel, EvaluationReport]) -> None:
    over_mens = found[1].difference("always-mens_email", metric="success")
    assert over_mens is not None
    assert abs(over_mens.value) < 0.006
    assert over_mens.low < 0.0 < over_mens.high
    assert found[1].best_constant == {"campaign": "mens_email"}


def test_the_first_model_is_let_in_and_the_findings_are_honest(found: tuple[TrainedModel, EvaluationReport]) -> None:
    verdict = judge(found[1])
    assert verdict.passes
    assert verdict.findings[0].startswith("no evidence that it beats always-mens_email: ")
    assert verdict.findings[1].startswith("better than uniform: ")
