"""Reports and the gate on logs of the tiny shop, whose truth is known."""

import zlib
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from decisioning.bundle import Bundle
from decisioning.errors import DataError
from decisioning.evaluation import Estimate
from decisioning.studentised_bounds import Advantage
from storage.settings import Settings
from tests.training.tiny_shop import ACTIONS, NOW, VALUE, chance, misled, tiny_catalog, tiny_examples
from training.evaluation_report import EvaluationReport, PolicyValue, evaluate
from training.gate import judge
from training.reward_model import FOLDS, cross_fitted
from training.target_policies import candidate_rows, drawn_decisions
from training.training_run import train


def bundle_from(examples: pd.DataFrame, seed: int = 1) -> Bundle:
    return train(examples, Settings(), catalog=tiny_catalog(), now=NOW, seed=seed, register=False).bundle


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(6000)


@pytest.fixture(scope="module")
def good(examples: pd.DataFrame) -> Bundle:
    return bundle_from(examples)


@pytest.fixture(scope="module")
def bad(examples: pd.DataFrame) -> Bundle:
    return bundle_from(misled(examples))


@pytest.fixture(scope="module")
def report(examples: pd.DataFrame, good: Bundle) -> EvaluationReport:
    return evaluate(good, examples, tiny_catalog())


def value_of(report: EvaluationReport, policy: str, metric: str = "reward", estimator: str = "dr") -> Estimate:
    return next(
        found.estimate
        for found in report.values
        if (found.policy, found.metric, found.estimator) == (policy, metric, estimator)
    )


def expected_reward(examples: pd.DataFrame, action_id: str) -> np.ndarray:
    worn = np.array([any(contact.action_id == action_id for contact in contacts) for contacts in examples["contacts"]])
    weather, age = examples["context"].str["weather"].to_numpy(), examples["customer.age"].to_numpy()
    return chance(weather, age, worn, action_id) * (1.0 if action_id == ACTIONS[2] else VALUE)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_each_policys_value_is_near_the_truth(examples: pd.DataFrame, report: EvaluationReport, estimator: str) -> None:
    later = examples[examples["decided_at"] > report.since]
    by_action = np.stack([expected_reward(later, name) for name in ACTIONS], axis=1)
    truth = {"uniform": by_action.mean(), **{f"always-{a}": by_action[:, i].mean() for i, a in enumerate(ACTIONS)}}
    for policy, true in truth.items():
        found = value_of(report, policy, estimator=estimator)
        error = (found.high - found.low) / 3.92
        assert abs(found.value - true) < 4 * error, policy


@pytest.fixture(scope="module")
def half_seen(examples: pd.DataFrame) -> pd.DataFrame:
    """The same draws, of which customers met every second action, and showing nothing always."""
    unseen = (np.random.default_rng(3).random(len(examples)) < 0.5) & (examples["action_id"] != ACTIONS[2]).to_numpy()
    earned = {name: np.where(unseen, 0, examples[name]) for name in ("reward", "success")}
    return examples.assign(met=~unseen, **earned)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_a_policys_value_is_near_the_truth_where_being_met_hangs_on_the_action(
    half_seen: pd.DataFrame, good: Bundle, estimator: str
) -> None:
    report = evaluate(good, half_seen, tiny_catalog())
    later = half_seen[half_seen["decided_at"] > report.since]
    seen = {name: 1.0 if name == ACTIONS[2] else 0.5 for name in ACTIONS}
    by_action = {name: expected_reward(later, name) * seen[name] for name in ACTIONS}
    truth = {"uniform": np.mean(list(by_action.values())), **{f"always-{a}": by_action[a].mean() for a in ACTIONS}}
    assert report.n_decisions == len(later) == 1500
    for policy, true in truth.items():
        found = value_of(report, policy, estimator=estimator)
        error = (found.high - found.low) / 3.92
        assert abs(found.value - true) < 4 * error, policy


def test_a_model_learns_from_what_was_met_alone(half_seen: pd.DataFrame) -> None:
    met = half_seen[half_seen["met"]].reset_index(drop=True)
    assert bundle_from(half_seen).manifest.data_sha256 == bundle_from(met).manifest.data_sha256


def test_the_model_beats_every_constant_and_uniform(report: EvaluationReport) -> None:
    for other in ("best_constant", "uniform", *(f"always-{action_id}" for action_id in ACTIONS)):
        difference = report.difference(other)
        assert difference is not None
        assert difference.low > 0.5, other


def test_only_decisions_after_everything_the_model_used_count(
    examples: pd.DataFrame, good: Bundle, report: EvaluationReport
) -> None:
    assert report.since == good.manifest.trained_until
    assert report.n_decisions == (examples["decided_at"] > good.manifest.trained_until).sum() == 1500


def test_with_a_champion_decisions_must_be_later_than_both(examples: pd.DataFrame, good: Bundle) -> None:
    younger = bundle_from(examples, seed=2)
    later = msgspec.structs.replace(
        younger,
        manifest=msgspec.structs.replace(
            younger.manifest, trained_until=good.manifest.trained_until + timedelta(hours=10)
        ),
        sha256="other",
    )
    found = evaluate(good, examples, tiny_catalog(), champion=later)
    assert found.since == later.manifest.trained_until
    assert found.n_decisions < 1500
    assert found.champion_version == later.manifest.version


def test_a_champion_is_not_compared_with_itself(examples: pd.DataFrame, good: Bundle) -> None:
    found = evaluate(good, examples, tiny_catalog(), champion=good)
    assert found.champion_version is None
    assert found.difference("champion") is None


def test_too_few_later_decisions_are_refused(examples: pd.DataFrame, good: Bundle) -> None:
    with pytest.raises(DataError, match="150 drawn decisions are later"):
        evaluate(good, examples.iloc[: 4500 + 150], tiny_catalog())


def test_a_report_is_a_table_and_json(report: EvaluationReport) -> None:
    table = report.table()
    assert len(table) == len(report.values) + len(report.differences)
    assert msgspec.json.decode(msgspec.json.encode(report), type=EvaluationReport) == report


def test_a_reward_model_never_met_the_customer_that_it_predicts(examples: pd.DataFrame, good: Bundle) -> None:
    catalog, features = tiny_catalog(), good.manifest.features
    decisions = drawn_decisions(examples.tail(800), catalog)
    encoded = candidate_rows(features, decisions, catalog)
    in_fold = np.array([zlib.crc32(str(c).encode()) % FOLDS == 0 for c in examples["customer_id"]])
    changed = examples.assign(reward=np.where(in_fold, 1000.0, examples["reward"]))
    before, after = (
        cross_fitted(features, encoded, frame, decisions, catalog, ("reward",), seed=1)["reward"]
        for frame in (examples, changed)
    )
    own = np.array([zlib.crc32(str(c).encode()) % FOLDS == 0 for c in decisions.examples["customer_id"]])
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


def test_the_gate_passes_a_better_challenger_and_refuses_a_worse_one(
    examples: pd.DataFrame, good: Bundle, bad: Bundle
) -> None:
    better = judge(evaluate(good, examples, tiny_catalog(), champion=bad))
    assert better.passes, better.against
    worse = judge(evaluate(bad, examples, tiny_catalog(), champion=good))
    assert len(worse.against) == 3
    assert "the champion (version" in worse.against[0]


def test_a_first_model_that_is_worse_than_uniform_is_refused(examples: pd.DataFrame, bad: Bundle) -> None:
    verdict = judge(evaluate(bad, examples, tiny_catalog()))
    assert not verdict.passes
    assert verdict.against[0].startswith("measurably worse than uniform: ")


def found_report(
    champion_version: str | None = "1", *, effective: float = 500.0, **differences: Any
) -> EvaluationReport:
    """A report with these advantages (value, standard error, degrees of freedom) on reward, by DR."""
    known = {"champion": (0.2, 0.05), "best_constant": (0.2, 0.05), "uniform": (0.2, 0.05), **differences}
    if champion_version is None:
        del known["champion"]
    return EvaluationReport(
        domain="tiny", version="2", run_id="r", bundle_sha256="b", champion_version=champion_version,
        champion_sha256="a", since=NOW, n_decisions=1000, n_customers=900,
        best_constant={"home_hero": "umbrella"}, logged={},
        values=(PolicyValue("greedy", "reward", "dr", Estimate(1.0, 0.9, 1.1, 1000, effective)),),
        differences=(), warnings=(),
        advantages={name: Advantage(*found) if len(found) == 3 else Advantage(*found, 800.0)
                    for name, found in known.items()},
    )  # fmt: skip


NAMES = {"champion": "the champion (version 1)", "best_constant": "always-umbrella", "uniform": "uniform"}


@pytest.mark.parametrize("other", NAMES)
def test_every_lower_bound_must_be_above_nothing(other: str) -> None:
    assert judge(found_report()).passes
    verdict = judge(found_report(**{other: (0.0012, 0.00213)}))
    assert verdict.against == (f"no evidence that it beats {NAMES[other]}: +0.0012 [-0.0030, +0.0054]",)


def test_a_lower_bound_that_is_nothing_is_not_above_it() -> None:
    same = judge(found_report(champion=(0.0, 0.0)))
    assert same.against == ("no evidence that it beats the champion (version 1): +0.0000 [+0.0000, +0.0000]",)


def test_what_is_measurably_worse_is_said_to_be() -> None:
    verdict = judge(found_report(uniform=(-0.2, 0.05)))
    assert verdict.against == ("measurably worse than uniform: -0.2000 [-0.2981, -0.1019]",)


def test_less_error_needs_more_evidence() -> None:
    near = found_report(champion=(0.2, 0.06))
    assert judge(near).passes
    assert not judge(near, error=0.05 / 720).passes
    assert judge(found_report(champion=(0.3, 0.06)), error=0.05 / 720).passes


def test_what_rests_on_the_rewards_of_a_few_customers_is_no_evidence() -> None:
    verdict = judge(found_report(champion=(0.2, 0.01, 12.0)))
    assert verdict.against == (
        "too few to tell whether it beats the champion (version 1): the difference of +0.2000 rests on about 6"
        " customers, must be at least 10",
    )
    assert judge(found_report(champion=(0.2, 0.01, 20.0))).passes


def test_what_a_reward_model_believes_of_choices_that_were_never_logged_is_no_evidence() -> None:
    believed = found_report()
    champion = believed.advantages["champion"]._replace(agreeing=3.0)
    verdict = judge(msgspec.structs.replace(believed, advantages={**believed.advantages, "champion": champion}))
    assert verdict.against == (
        "too few to tell whether it beats the champion (version 1): where the two differ, only 3 logged choices agree"
        " with one of them, must be at least 20",
    )


def test_do_no_harm_accepts_what_is_worse_by_less_than_its_margin() -> None:
    near = found_report(champion=(0.0, 0.025))
    assert not judge(near).passes
    assert judge(near, non_inferior=0.05).findings[0].startswith("at most 0.05 worse than the champion (version 1): ")
    refused = judge(near, non_inferior=0.04)
    assert refused.against[0].startswith("no evidence that it is at most 0.04 worse than the champion (version 1): ")


def test_a_first_model_needs_no_evidence_but_the_findings_say_that_there_is_none() -> None:
    verdict = judge(found_report(None, best_constant=(0.1, 0.1), uniform=(0.1, 0.1, 5.0)))
    assert verdict.passes
    assert [finding.split(":")[0] for finding in verdict.findings] == [
        "no evidence that it beats always-umbrella",
        "no evidence that it beats uniform",
    ]


def test_the_best_constants_of_several_placements_are_named() -> None:
    report = msgspec.structs.replace(found_report(best_constant=(0.0, 1.0)), best_constant={"a": "hat", "b": "coat"})
    assert (
        judge(report)
        .against[0]
        .startswith("no evidence that it beats the best constant of each placement (coat, hat): ")
    )


def test_without_a_champion_that_can_be_loaded_nothing_is_said_of_it() -> None:
    verdict = judge(found_report(None), champion_damaged=True)
    assert verdict.passes
    assert verdict.findings[0] == "the champion's bundle cannot be loaded, so nothing was compared with it"


def test_too_little_overlap_is_no_evidence() -> None:
    assert not judge(found_report(effective=20.0)).passes
    assert judge(found_report(None, effective=20.0)).passes


def test_what_was_rolled_back_stays_out() -> None:
    assert judge(found_report(), rolled_back="2026-01-01 complaints").against == (
        "it was rolled back: 2026-01-01 complaints",
    )
