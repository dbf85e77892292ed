"""The DR-learner against a shop whose effects are known."""

import re
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from storage.settings import Settings
from tests.builders import action
from tests.training.opposed_shop import FLYER, NOW, Opposed, opposed_catalog, opposed_shop
from training.examples import met_by_customers
from training.model_input import encode_shown, learn_features
from training.propensity import fit_propensity
from training.training_run import TrainedModel, train
from training.uplift import MOST_WEIGHT, contrasts, fit_uplift, pseudo_outcomes

CATALOG = opposed_catalog()


class Rankings(NamedTuple):
    """Of the test slice: the truth, the model's uplift, the propensity, and that above that of showing nothing."""

    truth: NDArray[np.float64]
    uplift: NDArray[np.float64]
    propensity: NDArray[np.float64]
    over_nothing: NDArray[np.float64]

    def gained(self, ranking: NDArray[np.float64]) -> float:
        """The share of what could be gained, of the third of the customers that is ranked highest."""
        third = len(ranking) // 3
        return float(self.truth[np.argsort(-ranking, kind="stable")[:third]].sum() / np.sort(self.truth)[-third:].sum())


def rankings(*, seed: int, met: float = 1.0) -> Rankings:
    world = opposed_shop(6000, seed=seed, met=met)
    model, _ = fit_propensity(met_by_customers(world.examples), CATALOG, seed=1)
    later = world.examples["decided_at"] > pd.Timestamp(model.split.trained_until)
    uplift = fit_uplift(world.examples[~later], model.features, CATALOG, seed=1)
    coupon, nothing = (
        encode_shown(model.features, world.examples[later].assign(action_id=name), CATALOG)
        for name in ("coupon", NO_ACTION)
    )
    propensity = model.propensities(coupon)
    over_nothing = propensity - model.propensities(nothing)
    return Rankings(world.by_coupon[later], uplift.uplifts(coupon), propensity, over_nothing)


@pytest.fixture(scope="module")
def world() -> Opposed:
    return opposed_shop(6000, seed=1)


@pytest.fixture(scope="module")
def trained(world: Opposed) -> TrainedModel:
    return train(world.examples, Settings(), catalog=CATALOG, now=NOW, register=False)


def test_it_finds_whom_showing_moves_where_propensities_find_who_buys_anyway() -> None:
    found = [rankings(seed=seed) for seed in range(3)]
    lost = {
        name: np.mean([1.0 - each.gained(getattr(each, name)) for each in found])
        for name in ("uplift", "propensity", "over_nothing")
    }
    assert lost["uplift"] < 0.03
    assert lost["uplift"] < lost["over_nothing"]
    assert lost["propensity"] > 0.5


def test_it_is_the_effect_of_deciding_where_few_meet_what_is_shown() -> None:
    found = rankings(seed=1, met=0.2)
    assert found.over_nothing.mean() - found.truth.mean() > 0.04  # of who met it, which is another thing
    assert abs(found.uplift.mean() - found.truth.mean()) < 0.02


def test_the_mean_uplift_of_an_action_is_its_effect(world: Opposed, trained: TrainedModel) -> None:
    assert trained.uplift.model is not None
    effects = trained.uplift.model.effects.set_index("action_id")
    truth = {"coupon": world.by_coupon.mean(), "flyer": FLYER}
    for action_id, effect in effects.iterrows():
        error = (effect["high"] - effect["low"]) / 3.92
        assert abs(effect["effect"] - truth[str(action_id)]) < 4.0 * error
        assert abs(effect["mean_uplift"] - effect["effect"]) < 2.0 * error


def test_pseudo_outcomes_are_right_on_average_although_the_reward_model_is_not() -> None:
    world = opposed_shop(6000, seed=2)
    pairs = contrasts(world.examples, CATALOG, rng=np.random.default_rng(0))
    coupon = pairs.of(pairs.action == pairs.actions.index("coupon"))
    # A model that sees noise alone expects the same of everyone.
    blind = [each for each in learn_features(world.examples, CATALOG) if each.name.startswith("noise")]
    shown = encode_shown(blind, pairs.examples, CATALOG)[coupon.row]
    expected, found = pseudo_outcomes(coupon, shown, blind, CATALOG, seed=1)
    truth = world.by_coupon[coupon.row]
    keen = coupon.examples["customer.keen"].to_numpy()[coupon.row]
    for half in (keen < 0.5, keen >= 0.5):
        weight, error = coupon.weight[half], (found - truth)[half]
        standard_error = np.sqrt(np.sum((weight * error) ** 2)) / weight.sum()
        assert abs(np.average(error, weights=weight)) < 4.0 * standard_error
    assert abs(np.average((expected - truth)[keen < 0.5])) > 0.1


def test_only_draws_where_both_could_have_been_are_compared() -> None:
    examples = opposed_shop(300).examples
    examples.loc[0, "probability"] = 1.0  # nothing else could have been
    examples.loc[1, "drawn"] = False  # a fallback, the holdout, nothing eligible
    examples.loc[2, "slot"] = 2
    examples.loc[3, "probability"] = np.nan
    examples.at[4, "candidates"] = ("coupon", "flyer")
    examples.loc[4, "action_id"] = "coupon"
    found = contrasts(examples, CATALOG, rng=np.random.default_rng(0))
    assert found.examples["row_id"].tolist() == examples["row_id"].tolist()[5:]
    treated = found.of(found.treated)
    assert [found.actions[code] for code in treated.action] == found.examples["action_id"].iloc[treated.row].tolist()
    controls = found.of(~found.treated)
    assert set(controls.examples["action_id"].iloc[controls.row]) == {NO_ACTION}
    assert np.bincount(controls.row).max() == 2  # it speaks of either action


def test_what_was_very_rare_counts_as_if_it_were_not_and_that_is_said() -> None:
    examples = opposed_shop(300).examples
    examples.loc[:29, "probability"] = 0.001
    found = contrasts(examples, CATALOG, rng=np.random.default_rng(0))
    assert found.weight.max() == MOST_WEIGHT
    assert found.capped == pytest.approx(0.1)


def test_a_control_speaks_of_a_few_of_many_actions_and_stands_for_all() -> None:
    many = Catalog(
        msgspec.structs.replace(
            CATALOG.content, actions=(*CATALOG.content.actions, *(action(f"a{n}") for n in range(20)))
        ),
        version="sha256:many",
    )
    examples = opposed_shop(300).examples
    examples["candidates"] = [tuple(many.actions)] * 300
    found = contrasts(examples, many, rng=np.random.default_rng(0))
    controls = found.of(~found.treated)
    assert np.bincount(controls.row).max() == 5
    per_row = 1.0 / found.examples["probability"].to_numpy()[controls.row]
    np.testing.assert_allclose(controls.weight, per_row * 22 / 5)


def test_without_controls_it_is_refused_with_what_to_do() -> None:
    examples = opposed_shop(600).examples
    features = learn_features(examples, CATALOG)
    shown = examples[examples["action_id"] != NO_ACTION].reset_index(drop=True)
    with pytest.raises(DataError, match=r"has 0 decisions at which nothing was drawn.*keep no_action live"):
        fit_uplift(shown, features, CATALOG, seed=1)
    nothing = examples[examples["action_id"] == NO_ACTION].reset_index(drop=True)
    with pytest.raises(DataError, match="the log has 0, 100 are needed: let the placement's policy explore"):
        fit_uplift(nothing, features, CATALOG, seed=1)


def test_the_test_slice_has_no_part_in_it_and_nothing_else_is_random(world: Opposed, trained: TrainedModel) -> None:
    scrambled = world.examples.copy()
    later = scrambled["decided_at"] > pd.Timestamp(trained.bundle.manifest.trained_until)
    scrambled.loc[later, "success"] = 1 - scrambled.loc[later, "success"]
    again = train(scrambled, Settings(), catalog=CATALOG, now=NOW, register=False)
    assert again.bundle.graph == trained.bundle.graph


def test_a_training_says_what_it_did_about_uplift(world: Opposed, trained: TrainedModel) -> None:
    assert trained.bundle.manifest.outputs == ("propensity", "uplift")
    assert re.fullmatch(r"learnt from 2,\d{3} draws of an action and 1,\d{3} of nothing", trained.uplift.said)
    assert {"uplift_qini", "uplift_at_10", "uplift_effect"} <= trained.metrics.keys()
    few = world.examples.iloc[-1500:].reset_index(drop=True)
    unwanted = train(few, Settings(), catalog=opposed_catalog(rank_by="response"), now=NOW, register=False)
    assert unwanted.bundle.manifest.outputs == ("propensity",)
    assert unwanted.uplift.said == "no live action ranks by uplift"
    uncontrolled = few.assign(drawn=few["drawn"] & (few["action_id"] != NO_ACTION))
    said = train(uncontrolled, Settings(), catalog=CATALOG, now=NOW, register=False).uplift.said
    assert said.startswith("not learnt, so it is the propensity above that of showing nothing: uplift is over showing")
