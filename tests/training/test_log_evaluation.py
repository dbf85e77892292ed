"""What policies would have earned on logs whose truth is known."""

from typing import Any

import numpy as np
import pytest

from decisioning.errors import RequestError
from decisioning.evaluation import Log, importance_weights
from training.estimators import ALL, estimated, estimators_of, to_trust
from training.log_evaluation import AS_LOGGED, LogEvaluation, evaluate_log, probability_doubt
from training.logged_bandit import LoggedBandit
from training.logged_policies import ExpectedRewards, logged_target

CHANCES = np.array([0.5, 0.3, 0.2])  # of the log's own policy
ACTIONS = ("a", "b", "c")


def truth(x: np.ndarray) -> np.ndarray:
    """The chance of a reward, `(n, 3)`: the first is best for large x, the last for small x."""
    return np.column_stack([0.3 + 0.2 * x, np.full(len(x), 0.3), 0.3 - 0.2 * x])


def bandit(n: int = 4_000, *, seed: int = 1, rewards: Any = truth, customers: int | None = None) -> LoggedBandit:
    rng = np.random.default_rng(seed)
    customer = np.arange(n) if customers is None else rng.integers(0, customers, n)
    x = rng.uniform(-1.0, 1.0, n)
    action = rng.choice(3, size=n, p=CHANCES)
    earned = rng.random(n) < rewards(x)[np.arange(n), action]
    return LoggedBandit(
        name="made up",
        actions=ACTIONS,
        log=Log(earned.astype(float), action, CHANCES[action], customer, np.ones((n, 3), dtype=bool)),
        features=x[:, None].astype(np.float32),
        feature_names=("x",),
        categories={},
        decision=None,
        slot=None,
        chosen={"best": np.eye(3)[np.where(x > 0.0, 0, 2)]},
        number=np.arange(n),
    )


@pytest.fixture(scope="module")
def report() -> LogEvaluation:
    policies = ("uniform", "always:a", "column:best", "greedy")
    return evaluate_log(bandit(), policies, estimators="all").report


@pytest.mark.parametrize("estimator", [name for name in ALL if name != "dm"])
@pytest.mark.parametrize(("policy", "true"), [("uniform", 0.3), ("always:a", 0.3), ("column:best", 0.4)])
def test_every_estimate_is_near_the_truth(report: LogEvaluation, policy: str, true: float, estimator: str) -> None:
    found = report.value(policy, estimator)
    assert abs(found.value - true) < 4.0 * (found.high - found.low) / 3.92


def test_a_policy_learnt_from_the_log_is_nearly_the_best(report: LogEvaluation) -> None:
    found = report.value("greedy", "dr")
    assert abs(found.value - 0.4) < 4.0 * (found.high - found.low) / 3.92
    verdict = next(each for each in report.verdicts if each.policy == "greedy")
    assert verdict.estimator == "dr"
    assert verdict.says.startswith("earns measurably more than what was logged")


def test_where_there_is_nothing_to_learn_a_learnt_policy_is_not_flattered() -> None:
    apart = []
    for seed in range(12):
        noise = bandit(1_000, seed=seed, rewards=lambda x: np.full((len(x), 3), 0.3))
        apart.append(evaluate_log(noise, ["greedy"], estimators="ips,dr", seed=seed).report.value("greedy", "dr").value)
    assert abs(np.mean(apart) - 0.3) < 4.0 * np.std(apart, ddof=1) / np.sqrt(len(apart))


def test_no_row_is_predicted_by_a_model_that_met_its_customer() -> None:
    made = bandit(900, customers=300)
    before = ExpectedRewards(made, seed=1).values
    changed = made.log.reward.copy()
    changed[made.log.customer == 7] = 1000.0
    log = Log(changed, made.log.action, made.log.probability, made.log.customer, made.log.available)
    after = ExpectedRewards(made._replace(log=log), seed=1).values
    own = made.log.customer == 7
    np.testing.assert_allclose(after[own], before[own], atol=0.2)  # but for the kind of loss
    assert np.abs(after[~own] - before[~own]).max() > 1.0


def test_the_log_over_itself_is_its_mean_and_differences_are_paired(report: LogEvaluation) -> None:
    assert report.value(AS_LOGGED, "mean").value == pytest.approx(bandit().log.reward.mean())
    by = {(each.policy, each.estimator, each.over): each.estimate for each in report.differences}
    assert by["always:a", "ips", AS_LOGGED].value == pytest.approx(
        report.value("always:a", "ips").value - bandit().log.reward.mean()
    )
    assert ("column:best", "dr", "uniform") in by


def test_cautious_intervals_are_there_where_rewards_are_bounded_and_hold_the_truth(report: LogEvaluation) -> None:
    assert report.rewards == (0.0, 1.0)
    assert len(report.cautious) == 2 * 4
    for each in report.cautious:
        if each.policy == "column:best":
            assert each.low <= 0.4 <= each.high
            plain = report.value("column:best", "ips")
            assert each.high - each.low > plain.high - plain.low


def test_unbounded_rewards_have_none_unless_their_bounds_are_named() -> None:
    made = bandit(500)
    wide = made._replace(log=_scaled(made.log, 3.0))
    assert evaluate_log(wide, ["uniform"]).report.cautious == ()
    assert len(evaluate_log(wide, ["uniform"], rewards=(0.0, 3.0)).report.cautious) == 2
    with pytest.raises(RequestError, match="rewards lie between 0 and 3; name the least and the largest"):
        evaluate_log(wide, ["uniform"], rewards=(0.0, 1.0))


def _scaled(log: Log, factor: float) -> Log:
    return Log(factor * log.reward, log.action, log.probability, log.customer, log.available)


def test_probabilities_of_another_choice_are_doubted() -> None:
    log = bandit().log
    assert probability_doubt(log) is None
    halved = Log(log.reward, log.action, log.probability / 2.0, log.customer, log.available)
    assert "a uniform choice would weigh 2.0" in (probability_doubt(halved) or "")


def test_where_the_log_never_did_it_nothing_is_trusted() -> None:
    made = bandit(2_000)
    log = made.log
    rare = Log(log.reward, np.where(log.action == 2, 1, log.action), log.probability, log.customer, log.available)
    found = evaluate_log(made._replace(log=rare), ["always:c"], estimators="all").report
    [verdict] = found.verdicts
    assert verdict.estimator is None
    assert verdict.says == "what it would earn cannot be told on this log"
    assert {each.estimator for each in found.values} == {"mean", "dm", "ips", "dr", "switch_dr", "dros"}
    assert any("never logged" in warning for warning in found.warnings)


def test_few_heavy_rows_are_left_to_shrinkage() -> None:
    n = 20_000
    rng = np.random.default_rng(1)
    often = rng.random(n) < 0.99
    chance = np.where(often, 0.99, 0.01)
    log = Log(rng.random(n), np.where(often, 0, 1), chance, np.arange(n), np.ones((n, 2), dtype=bool))
    estimator, why = to_trust(importance_weights(log, np.tile([0.0, 1.0], (n, 1))))
    assert estimator == "dros"
    assert "effective ones of 20,000" in why
    assert to_trust(importance_weights(log, np.tile([0.99, 0.01], (n, 1))))[0] == "dr"


def test_switch_and_shrinkage_choose_their_bound_by_the_log() -> None:
    made = bandit(1_000)
    target, q_hat = np.tile([0.0, 0.0, 1.0], (1_000, 1)), np.full((1_000, 3), 0.3)
    found = estimated(made.log, target, q_hat, ("dr", "switch_dr", "dros"))
    assert list(found) == ["dr", "switch_dr", "dros"]


def test_estimators_are_named_or_few_or_all() -> None:
    assert estimators_of("all") == ALL
    assert estimators_of("IPS, switch-dr") == ("ips", "switch_dr")
    with pytest.raises(RequestError, match="there is no estimator 'magic', must be few, all, or some of dm, ips"):
        estimators_of("ips,magic")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("always:z", "the log has no action 'z'; it has a, b, c"),
        ("clever", "there is no policy 'clever', must be one of greedy"),
        ("squarecb", "missing required field `gamma`"),
        ("epsilon_greedy:2", "Expected `float` <= 1"),
    ],
)
def test_policies_that_there_are_not_are_refused(spec: str, said: str) -> None:
    made = bandit(100)
    with pytest.raises(RequestError, match=said):
        logged_target(spec, made, ExpectedRewards(made, seed=1))


@pytest.mark.parametrize(
    "spec", ["greedy", "epsilon_greedy:0.1", "softmax:0.1", "squarecb:20,minimum_probability=0.05"]
)
def test_exploration_policies_are_distributions_over_what_was_available(spec: str) -> None:
    made = bandit(300)
    available = made.log.available.copy()
    available[np.arange(300), (made.log.action + 1) % 3] = False
    made = made._replace(
        log=Log(*[getattr(made.log, n) for n in ("reward", "action", "probability", "customer")], available)
    )
    target = logged_target(spec, made, ExpectedRewards(made, seed=1))
    np.testing.assert_allclose(target.sum(axis=1), 1.0)
    assert (target[~available] == 0.0).all()
    assert target[available].min() >= (0.05 if "minimum" in spec else 0.0)


def test_a_policy_can_stand_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("exploration: {policy: epsilon_greedy, epsilon: 0.3}\n")
    made = bandit(100)
    expected = ExpectedRewards(made, seed=1)
    np.testing.assert_array_equal(
        logged_target(str(path), made, expected), logged_target("epsilon_greedy:0.3", made, expected)
    )


def slate_bandit(n: int, *, seed: int = 1) -> LoggedBandit:
    """Slates of two of three actions, drawn one after the other in proportion to `CHANCES`; clicks hang on both."""
    rng = np.random.default_rng(seed)
    first = rng.choice(3, size=n, p=CHANCES)
    left = np.tile(CHANCES, (n, 1))
    left[np.arange(n), first] = 0.0
    left /= left.sum(axis=1, keepdims=True)
    second = (left.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    action = np.stack([first, second], axis=1)
    reward = (rng.random((n, 2)) < slate_worth(action)).astype(float)
    probability = np.stack([CHANCES[first], left[np.arange(n), second]], axis=1)
    available = np.ones((n, 2, 3), dtype=bool)
    available[np.arange(n), 1, first] = False
    decision, slot = np.repeat(np.arange(n), 2), np.tile([0, 1], n)
    log = Log(reward.ravel(), action.ravel(), probability.ravel(), decision, available.reshape(-1, 3))
    empty = np.empty((2 * n, 0), dtype=np.float32)
    return LoggedBandit("slates", ACTIONS, log, empty, (), {}, decision, slot, {}, np.arange(2 * n))


def slate_worth(action: np.ndarray) -> np.ndarray:
    """Chances of a click in each slot, `(..., 2)`: the second is likelier after the last action."""
    own = np.array([0.2, 0.4, 0.6])[action]
    own[..., 1] = 0.5 * own[..., 1] + 0.3 * (action[..., 0] == 2)
    return own


@pytest.mark.parametrize("estimator", ["sips", "snsips", "rips", "snrips", "cascade_dr"])
def test_every_estimate_of_slates_is_near_the_truth(estimator: str) -> None:
    pairs = np.array([(a, b) for a in range(3) for b in range(3) if a != b])
    uniform = slate_worth(pairs).sum(axis=1).mean()
    after_c = slate_worth(np.array([(2, 0), (2, 1)])).sum(axis=1).mean()
    found = evaluate_log(slate_bandit(4_000), ["uniform", "always:c"], estimators=estimator).report
    for policy, true in (("uniform", uniform), ("always:c", after_c)):
        estimate = found.value(policy, estimator)
        assert abs(estimate.value - true) < 4.0 * (estimate.high - estimate.low) / 3.92
    assert found.n_decisions == 4_000
    assert found.value(AS_LOGGED, "mean").value == pytest.approx(slate_bandit(4_000).log.reward.sum() / 4_000)


def test_of_slates_the_doubly_robust_estimate_is_the_steadiest_and_trusted() -> None:
    found = evaluate_log(slate_bandit(4_000), ["always:c"], estimators="all").report
    widths = {e.estimator: e.estimate.high - e.estimate.low for e in found.values if e.policy == "always:c"}
    assert min(widths, key=widths.__getitem__) in ("cascade_dr", "snrips")
    assert widths["cascade_dr"] < widths["rips"] < widths["sips"]
    assert found.verdicts[0].estimator == "cascade_dr"
    assert found.cautious == ()


def test_estimators_of_rows_are_none_of_slates() -> None:
    with pytest.raises(RequestError, match="no estimator 'dros' of slates, must be few, all, or some of sips"):
        evaluate_log(slate_bandit(100), ["uniform"], estimators="dros")


def test_an_ensemble_is_less_sure_of_what_was_rarely_seen() -> None:
    made = bandit(1_500)
    members = ExpectedRewards(made, seed=1).members
    doubt = members.std(axis=0, ddof=1).mean(axis=0)
    assert members.shape == (10, 1_500, 3)
    assert (doubt > 0.0).all()
    assert doubt[2] > doubt[0]  # drawn with 0.2 and 0.5
