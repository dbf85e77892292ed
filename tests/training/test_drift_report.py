"""A model is watched from the day it was trained: quiet while the shop stays as it was, and no longer."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import numpy as np
import pandas as pd
import pytest

from decisioning.errors import DataError, SetupError
from decisioning.record import ModelVersion
from storage.settings import Settings
from tests.builders import candidate, record, request, slot
from tests.training.tiny_shop import ACTIONS, NOW, tiny_catalog, tiny_examples
from training.closed_decisions import Closed
from training.drift_report import DriftReport, drift_report
from training.model_input import encode_pairs
from training.training_run import TrainedModel, train

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(9_000)
BEFORE, AFTER = EXAMPLES.iloc[:4_500], EXAMPLES.iloc[4_500:].reset_index(drop=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    settings = Settings(home=tmp_path_factory.mktemp("home"), domain="tiny")
    return train(BEFORE, settings, catalog=CATALOG, now=NOW, seed=1)


def live(trained: TrainedModel, examples: pd.DataFrame) -> list[Closed]:
    """The examples as decisions that the model scored, though others chose."""
    n = len(examples)
    rows, codes = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
    encoded = encode_pairs(trained.model.features, examples, CATALOG, rows, ACTIONS, codes)
    scores = trained.model.propensities(encoded).reshape(n, 3)
    found = []
    for row, example in enumerate(examples.to_dict("records")):
        made = record(
            decision_id=example["row_id"],
            domain="tiny",
            decided_at=example["decided_at"].to_pydatetime(),
            customer_id=example["customer_id"],
            request=request(context=example["context"]),
            features={"age": example["customer.age"], "colour": example["customer.colour"]},
            candidates=tuple(
                candidate(name, propensity=float(scores[row, place])) for place, name in enumerate(ACTIONS)
            ),
            slots=(slot(1, example["action_id"]),),
            model=ModelVersion("m", "1", trained.bundle.sha256),
        )
        found.append(Closed(made, True, float(example["reward"])))
    return found


def report(trained: TrainedModel, closed: list[Closed]) -> DriftReport:
    return drift_report(
        [each.record for each in closed],
        closed,
        trained.bundle.manifest,
        bundle_sha256=trained.bundle.sha256,
        since=NOW,
        until=NOW + timedelta(days=1),
    )


def test_a_trained_bundle_says_what_it_learnt_from_in_little_room(trained: TrainedModel) -> None:
    reference = trained.bundle.manifest.reference
    assert reference is not None
    assert {each.name for each in reference.features} == {"age", "colour", "weather", "placement", "channel"}
    assert reference.scores is not None
    assert sum(reference.scores.shares) == pytest.approx(1.0)
    assert len(msgspec.json.encode(reference)) < 500 * (len(reference.features) + 1)


def test_a_shop_that_stays_as_it_was_raises_no_alarm(trained: TrainedModel) -> None:
    found = report(trained, live(trained, AFTER))
    assert found.alarms == ()
    assert {each.level for each in found.features} == {"none"}
    assert found.scores is not None
    assert found.scores.level == "none"
    assert found.calibration is not None
    assert found.calibration.low < 1.0 < found.calibration.high


def older(examples: pd.DataFrame) -> pd.DataFrame:
    return examples.assign(**{"customer.age": examples["customer.age"] + 25.0})


def always_rain(examples: pd.DataFrame) -> pd.DataFrame:
    return examples.assign(context=[{"weather": "rain"}] * len(examples))


def colourless(examples: pd.DataFrame) -> pd.DataFrame:
    return examples.assign(**{"customer.colour": None})


@pytest.mark.parametrize(
    ("change", "feature"),
    [(older, "age"), (always_rain, "weather"), (colourless, "colour")],
    ids=["age", "weather", "colour"],
)
def test_what_changed_is_named_and_nothing_else(
    trained: TrainedModel, change: Callable[[pd.DataFrame], pd.DataFrame], feature: str
) -> None:
    found = report(trained, live(trained, change(AFTER)))
    assert [each.name for each in found.features if each.level in ("moderate", "major")] == [feature]
    assert found.alarms[0].startswith(f"{feature} drifted (major")
    assert found.summary.psi[feature] > 0.25


def test_customers_who_respond_less_than_promised_are_an_alarm(trained: TrainedModel) -> None:
    lost = np.random.default_rng(1).random(len(AFTER)) < 0.4
    closed = live(trained, AFTER.assign(reward=AFTER["reward"].where(~lost, 0.0)))
    found = report(trained, closed)
    assert found.calibration is not None
    assert found.calibration.drifted
    assert found.calibration.ratio == pytest.approx(0.6, abs=0.1)
    assert "were promised" in found.alarms[0]


def test_the_models_own_word_is_compared_and_another_models_is_not(trained: TrainedModel) -> None:
    closed = live(trained, AFTER.iloc[:1200])
    other = [
        each._replace(record=msgspec.structs.replace(each.record, model=ModelVersion("m", "0", "f" * 64)))
        for each in closed
    ]
    found = report(trained, other)
    assert (found.scores, found.calibration, found.closed) == (None, None, 0)
    shifted = [
        each._replace(
            record=msgspec.structs.replace(
                each.record,
                candidates=tuple(
                    msgspec.structs.replace(c, score=c.propensity, propensity=0.9, shift=3.0)
                    for c in each.record.candidates
                ),
            )
        )
        for each in closed
    ]
    found = report(trained, shifted)
    assert found.scores is not None
    assert found.scores.level == "none"


def test_what_was_not_met_promises_nothing(trained: TrainedModel) -> None:
    assert report(trained, [each._replace(met=False) for each in live(trained, AFTER.iloc[:1200])]).closed == 0


def test_a_value_of_another_kind_counts_as_missing(trained: TrainedModel) -> None:
    closed = live(trained, AFTER.iloc[:1200])
    odd = [
        each._replace(record=msgspec.structs.replace(each.record, features={"age": "old", "colour": "red"}))
        for each in closed
    ]
    [age] = [each for each in report(trained, odd).features if each.name == "age"]
    assert (age.level, age.moved.partition(":")[0]) == ("major", "missing")


def test_without_decisions_or_a_reference_it_says_what_to_do(trained: TrainedModel) -> None:
    with pytest.raises(DataError, match="no decision was scored"):
        report(trained, [])
    bare = msgspec.structs.replace(trained.bundle.manifest, reference=None)
    with pytest.raises(SetupError, match="nextmove train"):
        drift_report([], [], bare, bundle_sha256="", since=NOW, until=NOW)
