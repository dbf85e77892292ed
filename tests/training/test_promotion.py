"""From training to a served champion and back, with real MLflow, ledger and bundles in a temporary home."""

from datetime import timedelta
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from decisioning.errors import BundleError, GateRefused, SetupError
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.ledger.gate_attempts import kept_attempts
from storage.ledger.reader import LedgerReader
from storage.promotion_lease import moving_pointer
from storage.settings import Settings
from tests.training.tiny_shop import NOW, misled, tiny_catalog, tiny_examples
from training.evaluation_run import evaluate_run
from training.gate_log import BOARD, KEY_TAG
from training.promotion import promote
from training.rollback import rollback
from training.tracking import CHALLENGER, CHAMPION, Tracking
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
    """A decent model, trained on the first two thirds, registered and not promoted."""
    return train(examples, settings, catalog=CATALOG, now=NOW, seed=1)


def served(settings: Settings) -> str | None:
    blobs = BlobStore(settings)
    try:
        return blobs.pointer(bundle_pointer("tiny"))
    finally:
        blobs.close()


def files(settings: Settings, run_id: str, folder: str = "") -> set[str]:
    return {item.path for item in Tracking(settings).client.list_artifacts(run_id, folder or None)}


def boards(settings: Settings) -> dict[str, str]:
    """The outcomes on the board `gate`, each with its verdict and a figure, by attempt."""
    tracking = Tracking(settings)
    runs = tracking.client.search_runs([tracking.board(BOARD)])
    for run in runs:
        assert files(settings, run.info.run_id) == {"verdict.md", "figures"}
        assert {"alpha", "value/greedy/low", "over/uniform/high"} <= set(run.data.metrics)
    return {run.data.tags[KEY_TAG]: run.data.tags["outcome"] for run in runs}


def test_a_run_holds_what_is_needed_to_judge_its_model(settings: Settings, trained: TrainedModel) -> None:
    run = Tracking(settings).client.get_run(trained.run_id)
    assert {"test_log_loss", "test_base_rate_log_loss", "test_auc", "test_calibration_error"} <= set(run.data.metrics)
    assert run.data.params["trained_until"] == trained.bundle.manifest.trained_until.isoformat()
    assert run.data.tags["mlflow.source.git.commit"] == trained.bundle.manifest.git_commit
    assert run.data.tags["bundle_sha256"] == trained.bundle.sha256
    assert run.inputs.dataset_inputs[0].dataset.digest == trained.bundle.manifest.data_sha256[:32]
    assert {"model_card.md", "by_action.csv", "by_action.json"} <= files(settings, trained.run_id)
    assert files(settings, trained.run_id, "figures") == {"figures/reliability.png", "figures/importance.png"}
    assert files(settings, trained.run_id, "bundle") == {"bundle/manifest.json", "bundle/model.onnx"}
    assert run.info.status == "FINISHED"


def test_nothing_in_mlflow_is_a_pickle_or_names_a_customer(settings: Settings, trained: TrainedModel) -> None:
    kept = [path for path in settings.artifacts_dir.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert not [path for path in kept if b"c-17" in path.read_bytes() and path.suffix in (".json", ".csv", ".md")]


def test_the_registered_booster_is_lightgbms_own_and_scores_like_the_bundle(
    settings: Settings, trained: TrainedModel
) -> None:
    mlflow.set_tracking_uri(settings.mlflow_uri)
    booster = mlflow.lightgbm.load_model(f"models:/tiny-propensity/{trained.version}")
    rows = trained.bundle.manifest.probe_rows
    scores = trained.model.calibration.apply(booster.predict(rows, num_threads=1))
    assert abs(scores - trained.bundle.manifest.expected_scores).max() < 1e-5


def test_training_makes_a_challenger_and_serves_nothing(settings: Settings, trained: TrainedModel) -> None:
    tracking = Tracking(settings)
    challenger = tracking.version_by_alias("tiny", CHALLENGER)
    assert challenger is not None
    assert challenger.bundle_sha256 == trained.bundle.sha256
    assert tracking.version_by_alias("tiny", CHAMPION) is None
    assert served(settings) is None
    blobs = BlobStore(settings)
    assert load_bundle(blobs, trained.bundle.sha256) == trained.bundle
    blobs.close()


def test_there_is_nothing_to_roll_back_before_the_first_promotion(settings: Settings, trained: TrainedModel) -> None:
    with pytest.raises(SetupError, match="none was ever promoted"):
        rollback(settings, "tiny", now=NOW, reason="nerves")


def test_the_life_of_three_models(settings: Settings, trained: TrainedModel, examples: pd.DataFrame) -> None:
    tracking = Tracking(settings)
    report = evaluate_run(examples, settings, catalog=CATALOG, now=NOW)
    assert report.run_id == trained.run_id
    assert "evaluation/report.json" in files(settings, trained.run_id, "evaluation")

    first = promote(examples, settings, catalog=CATALOG, now=NOW, report=report)
    assert first.changed
    assert first.report is report, "the same two models were compared, so it is not done again"
    assert served(settings) == trained.bundle.sha256
    assert tracking.version_by_alias("tiny", CHAMPION) == tracking.version_by_alias("tiny", CHALLENGER)

    again = promote(examples, settings, catalog=CATALOG, now=NOW)
    assert not again.changed, "it is the champion already"

    worse = train(misled(examples), settings, catalog=CATALOG, now=NOW, seed=2)
    with pytest.raises(GateRefused, match=r"measurably worse than the champion \(version 1\): -"):
        promote(examples, settings, catalog=CATALOG, now=NOW)
    assert served(settings) == trained.bundle.sha256
    assert tracking.client.get_model_version("tiny-propensity", worse.version).tags["gate"] == "refused"
    assert files(settings, worse.run_id, "gate")

    with pytest.raises(GateRefused, match="asked by hand 3 times in 30 days, each time with an error of at most 5%"):
        promote(examples, settings, catalog=CATALOG, now=NOW + timedelta(minutes=1))
    for said in ("was not promoted", "was not judged: what its scheduled gate may err by within 30 days is spent"):
        with pytest.raises(GateRefused, match=said):
            promote(examples, settings, catalog=CATALOG, now=NOW + timedelta(minutes=2), scheduled=True)
    later = NOW + timedelta(hours=1)
    forced = promote(examples, settings, catalog=CATALOG, now=later, force="the board insists", actor="mara")
    assert forced.forced == "the board insists"
    assert served(settings) == worse.bundle.sha256
    tags = tracking.client.get_model_version("tiny-propensity", worse.version).tags
    assert (tags["gate"], tags["gate_forced_because"]) == ("forced", "the board insists")
    kept = kept_attempts(settings, "tiny")
    assert [each.outcome for each in kept] == ["passed", "refused", "refused", "refused", "forced"]
    assert [each.alpha for each in kept] == pytest.approx([0.0, 0.05, 0.05, 0.05 / 30, 0.05])
    assert kept[1].comparisons[0][0] == "the champion (version 1)"
    assert kept[1].against[0] in tags["gate_reasons"]
    reader = LedgerReader(settings)
    assert [(each.actor, each.reason) for each in reader.audits(what={"model.force"})] == [
        ("mara", "the board insists")
    ]
    reader.close()
    assert boards(settings) == {each.key: each.outcome for each in kept}

    back = rollback(settings, "tiny", now=NOW + timedelta(hours=2), reason="complaints")
    assert (back.version, back.left_version) == (trained.version, worse.version)
    assert served(settings) == trained.bundle.sha256
    champion = tracking.version_by_alias("tiny", CHAMPION)
    assert champion is not None
    assert champion.version == trained.version
    with pytest.raises(GateRefused, match=r"it was rolled back: .* complaints"):
        promote(examples, settings, catalog=CATALOG, now=NOW)
    with pytest.raises(SetupError, match="no earlier champion"):
        rollback(settings, "tiny", now=NOW + timedelta(hours=3), reason="more complaints")

    named = promote(examples, settings, catalog=CATALOG, now=NOW, run_id=trained.run_id)
    assert not named.changed


def test_a_second_promotion_at_the_same_time_is_told_so(settings: Settings, examples: pd.DataFrame) -> None:
    with (
        moving_pointer(settings, "tiny"),
        pytest.raises(SetupError, match="another promotion or rollback is running"),
    ):
        promote(examples, settings, catalog=CATALOG, now=NOW)


def test_an_unknown_run_is_named(settings: Settings, trained: TrainedModel, examples: pd.DataFrame) -> None:
    with pytest.raises(SetupError, match="run 'nope' registered no model"):
        promote(examples, settings, catalog=CATALOG, now=NOW, run_id="nope")


def test_overruling_the_gate_needs_a_reason(settings: Settings, examples: pd.DataFrame) -> None:
    with pytest.raises(SetupError, match="reason for --force is empty"):
        promote(examples, settings, catalog=CATALOG, now=NOW, force=" ")


def test_a_damaged_bundle_is_not_promoted_even_by_force(
    settings: Settings, trained: TrainedModel, examples: pd.DataFrame
) -> None:
    tracking = Tracking(settings)
    known = tracking.version_by_alias("tiny", CHALLENGER)
    assert known is not None
    blobs = BlobStore(settings)
    tracking.tag_version("tiny", known.version, {"bundle_sha256": blobs.put(b"{}")})
    blobs.close()
    with pytest.raises(BundleError, match="cannot be read"):
        promote(examples, settings, catalog=CATALOG, now=NOW, force="hurry")


def test_an_unregistered_model_writes_nothing(tmp_path: Path, examples: pd.DataFrame) -> None:
    alone = train(examples, Settings(home=tmp_path / "home"), catalog=CATALOG, now=NOW, register=False)
    assert alone.run_id == ""
    assert alone.version.startswith("unregistered-")
    assert not (tmp_path / "home").exists()
