import numpy as np
import pytest

from decisioning.linear_gaussian import Evidence, LearntPrior, Prior

N_FEATURES = 6


def rows(n: int, weights: np.ndarray, *, noise: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, len(weights)))
    return features, features @ weights + rng.normal(0.0, noise, n)


def many_actions(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attributes, true weights and what each weight strays from what the attributes foretell."""
    rng = np.random.default_rng(seed)
    attributes = np.column_stack([np.ones(n), rng.integers(0, 2, (n, 2))])
    stray = 0.2
    weights = attributes @ rng.normal(size=(3, N_FEATURES)) + rng.normal(0.0, stray, (n, N_FEATURES))
    return attributes, weights, np.full(n, stray)


def test_learning_row_by_row_and_all_at_once_is_the_same() -> None:
    features, rewards = rows(500, np.arange(6.0), noise=2.0)
    one_by_one = Evidence.none(N_FEATURES)
    for at in range(len(rewards)):
        one_by_one += Evidence.of(features[at : at + 1], rewards[at : at + 1])
    prior = Prior.vague(N_FEATURES)
    together, apart = prior.after(Evidence.of(features, rewards)), prior.after(one_by_one)
    np.testing.assert_allclose(apart.mean, together.mean, rtol=1e-9)
    np.testing.assert_allclose(apart.covariance, together.covariance, rtol=1e-9, atol=1e-12)
    assert apart.noise == pytest.approx(together.noise, rel=1e-9)


def test_beliefs_are_those_of_the_textbook() -> None:
    """Murphy 7.69 to 7.73, written as they stand there."""
    features, rewards = rows(20, np.arange(6.0), noise=2.0)
    mean = np.linspace(-1, 1, N_FEATURES)
    after = Prior(mean, share=0.5, noise=3.0).after(Evidence.of(features, rewards))
    v0 = 0.5 * np.eye(N_FEATURES)
    vn = np.linalg.inv(np.linalg.inv(v0) + features.T @ features)
    wn = vn @ (np.linalg.inv(v0) @ mean + features.T @ rewards)
    a0, b0 = 2.0, 2.0 * 3.0
    bn = b0 + 0.5 * (mean @ np.linalg.inv(v0) @ mean + rewards @ rewards - wn @ np.linalg.inv(vn) @ wn)
    noise = bn / (a0 + 10.0)
    np.testing.assert_allclose(after.mean, wn)
    assert after.noise == pytest.approx(noise)
    np.testing.assert_allclose(after.covariance, noise * vn)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    context = np.ones((1, N_FEATURES))
    held = 0
    worlds = 400
    for world in range(worlds):
        weights = rng.normal(size=N_FEATURES)
        features, rewards = rows(40, weights, noise=1.0, seed=world)
        value, sd = Prior.vague(N_FEATURES).after(Evidence.of(features, rewards)).value(context)
        held += bool(abs(value[0] - weights.sum()) < 1.6449 * sd[0])
    assert abs(held / worlds - 0.9) < 4 * np.sqrt(0.09 / worlds)


def test_the_noise_is_learnt_and_doubt_scales_with_it() -> None:
    beliefs = [
        Prior.vague(N_FEATURES).after(Evidence.of(*rows(5_000, np.arange(6.0), noise=noise))) for noise in (0.5, 20.0)
    ]
    assert [belief.noise for belief in beliefs] == pytest.approx([0.25, 400.0], rel=0.1)
    doubts = [float(belief.value(np.ones((1, N_FEATURES)))[1][0]) for belief in beliefs]
    assert doubts[1] / doubts[0] == pytest.approx(40.0, rel=0.1)


def test_a_hundred_thousand_updates_with_almost_collinear_features_stay_exact() -> None:
    rng = np.random.default_rng(3)
    weights = np.array([1.0, -2.0, 3.0])
    seen = Evidence.none(3)
    for _ in range(1_000):
        base = rng.normal(size=(100, 1))
        features = np.hstack([base, base + 1e-6 * rng.normal(size=(100, 1)), np.full((100, 1), 1e3)])
        seen += Evidence.of(features, features @ weights + rng.normal(size=100))
    belief = Prior.vague(3).after(seen)
    value, sd = belief.value(np.array([[1.0, 1.0, 1e3]]))
    assert abs(value[0] - 2_999.0) < 4 * sd[0]
    assert 0.0 < sd[0] < 0.02
    assert np.linalg.eigvalsh(belief.covariance).min() >= 0.0


def test_what_faded_lets_a_changed_world_be_followed() -> None:
    before, after = np.full(N_FEATURES, 2.0), np.full(N_FEATURES, -2.0)
    seen = kept = Evidence.none(N_FEATURES)
    for day in range(60):
        new = Evidence.of(*rows(100, before if day < 30 else after, noise=1.0, seed=day))
        seen, kept = seen.faded(0.8) + new, kept + new
    context = np.ones((1, N_FEATURES))
    assert Prior.vague(N_FEATURES).after(seen).value(context)[0][0] == pytest.approx(-12.0, abs=0.5)
    assert abs(Prior.vague(N_FEATURES).after(kept).value(context)[0][0]) < 1.0
    assert seen.rows < 500.0


def test_a_new_action_starts_from_what_similar_ones_earn_with_more_doubt_than_they() -> None:
    attributes, weights, _ = many_actions(30, seed=2)
    seen = [Evidence.of(*rows(400, each, noise=1.0, seed=at)) for at, each in enumerate(weights)]
    learnt = LearntPrior.of(seen[1:], attributes[1:])
    prior = learnt.prior(attributes[0])
    context = np.ones((1, N_FEATURES))
    truth = weights[0].sum()
    new, new_doubt = prior.after(Evidence.none(N_FEATURES)).value(context)
    met, met_doubt = prior.after(seen[0]).value(context)
    assert abs(new[0] - truth) < 3 * new_doubt[0]
    assert new_doubt[0] < 2.0 < abs(truth), "knowing nothing would be further off"
    assert met_doubt[0] < new_doubt[0] / 3
    assert abs(met[0] - truth) < 4 * met_doubt[0]


def test_what_is_said_of_new_actions_holds_as_often_as_it_says() -> None:
    """Of few met actions, where what is learnt of their attributes is itself in doubt."""
    met = 5
    held = []
    for world in range(40):
        attributes, weights, _ = many_actions(met + 4, seed=100 + world)
        seen = [Evidence.of(*rows(60, each, noise=1.0, seed=at)) for at, each in enumerate(weights[:met])]
        learnt = LearntPrior.of(seen, attributes[:met])
        for z, truth in zip(attributes[met:], weights[met:], strict=True):
            value, sd = learnt.prior(z).after(Evidence.none(N_FEATURES)).value(np.eye(N_FEATURES))
            held += (np.abs(value - truth) < 1.6449 * sd).tolist()
    # Actions of one world share what was learnt, so worlds are counted and not actions.
    assert abs(np.mean(held) - 0.9) < 4 * np.sqrt(0.09 / 40)


def test_few_rows_of_an_action_are_read_in_the_light_of_the_others() -> None:
    attributes, weights, _ = many_actions(30, seed=4)
    seen = [Evidence.of(*rows(400, each, noise=3.0, seed=at)) for at, each in enumerate(weights)]
    few = [Evidence.of(*rows(4, each, noise=3.0, seed=50 + at)) for at, each in enumerate(weights[:10])]
    learnt = LearntPrior.of([*few, *seen[10:]], attributes)
    informed, alone = [
        np.mean([(prior(z).after(e).mean - w) ** 2 for z, e, w in zip(attributes[:10], few, weights[:10], strict=True)])
        for prior in (learnt.prior, lambda _z: Prior.vague(N_FEATURES))
    ]
    assert informed < alone / 4


def test_rewards_in_cents_or_in_euros_say_the_same_of_a_new_action() -> None:
    attributes, weights, _ = many_actions(12, seed=6)
    new = []
    for unit in (1.0, 100.0):
        seen = [Evidence.of(*rows(100, unit * each, noise=unit, seed=at)) for at, each in enumerate(weights)]
        belief = LearntPrior.of(seen, attributes).prior(attributes[0]).after(Evidence.none(N_FEATURES))
        new.append((belief.mean / unit, belief.covariance / unit**2))
    np.testing.assert_allclose(new[0][0], new[1][0], rtol=1e-6)
    np.testing.assert_allclose(new[0][1], new[1][1], rtol=1e-6, atol=1e-12)


def test_rewards_that_never_vary_are_learnt_from() -> None:
    attributes = np.ones((3, 1))
    seen = [Evidence.of(np.ones((20, 1)), np.full(20, reward)) for reward in (0.0, 0.0, 0.0)]
    belief = LearntPrior.of(seen, attributes).prior(np.ones(1)).after(seen[0])
    assert np.isfinite(belief.covariance).all()
    assert belief.mean[0] == 0.0
