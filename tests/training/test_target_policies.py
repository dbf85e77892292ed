import msgspec
import numpy as np
import pandas as pd
import pytest

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from storage.settings import Settings
from tests.training.opposed_shop import opposed_catalog, opposed_shop
from tests.training.tiny_shop import ACTIONS, NOW, tiny_catalog, tiny_examples
from training.graph_scorer import GraphScorer, verified_scorer
from training.target_policies import (
    always,
    best_constant,
    candidate_rows,
    constant_ranking,
    drawn_decisions,
    greedy,
    priorities,
    uniform,
)
from training.training_run import train


def test_greedy_takes_the_highest_and_ties_share() -> None:
    assert greedy(np.array([[1.0, 3.0, 3.0], [2.0, -np.inf, 1.0]])).tolist() == [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


def test_only_first_slots_that_were_drawn_of_known_actions_count() -> None:
    examples = tiny_examples(30)
    examples.loc[:8, "drawn"] = False
    examples.loc[9, "slot"] = 2
    examples.loc[10, "action_id"] = "gone"
    decisions = drawn_decisions(examples, tiny_catalog())
    assert len(decisions.examples) == 19
    assert decisions.actions == ACTIONS


def test_a_candidate_that_the_catalogue_lost_cannot_be_chosen() -> None:
    examples = tiny_examples(30)
    examples["candidates"] = [(*ACTIONS, "gone")] * 30
    examples["context_weights"] = [(1.0, 2.0, 1.0, 5.0)] * 30
    examples["values"] = [(10.0, 10.0, 1.0, 7.0)] * 30
    decisions = drawn_decisions(examples, tiny_catalog())
    assert decisions.actions == ACTIONS
    assert decisions.context_weight[0].tolist() == [1.0, 2.0, 1.0]
    assert decisions.value[0].tolist() == [10.0, 10.0, 1.0]


def narrow_examples() -> pd.DataFrame:
    """Six decisions; in the last three, umbrella could not be chosen."""
    examples = tiny_examples(300).head(6).copy()
    examples["action_id"] = ["umbrella", "umbrella", "sunglasses", "sunglasses", NO_ACTION, "sunglasses"]
    examples["candidates"] = [ACTIONS] * 3 + [ACTIONS[1:]] * 3
    examples["context_weights"] = examples["values"] = [(1.0,) * 3] * 3 + [(1.0,) * 2] * 3
    return examples


def test_every_policy_stays_within_what_could_have_been_chosen() -> None:
    decisions = drawn_decisions(narrow_examples(), tiny_catalog())
    ranking = {"home_hero": ["umbrella", NO_ACTION, "sunglasses"]}
    constant = best_constant(decisions, ranking)
    for target in (uniform(decisions), constant, always(decisions, "umbrella", constant)):
        assert target.sum(axis=1).tolist() == [1.0] * 6
        assert not target[~decisions.available].any()
    assert constant.argmax(axis=1).tolist() == [0, 0, 0, 2, 2, 2]


def test_an_unknown_placement_has_no_constant_so_anything_goes() -> None:
    decisions = drawn_decisions(narrow_examples(), tiny_catalog())
    np.testing.assert_array_equal(best_constant(decisions, {}), uniform(decisions))


def test_the_best_constant_is_not_fooled_by_who_was_shown_what() -> None:
    n = 4000
    rng = np.random.default_rng(0)
    keen = rng.random(n) < 0.5
    umbrella_chance = np.where(keen, 0.8, 0.1)  # umbrellas go to the keen, who buy anything
    umbrella = rng.random(n) < umbrella_chance
    success = rng.random(n) < np.where(keen, 0.6, 0.1) + np.where(umbrella, 0.0, 0.1)
    examples = tiny_examples(n).assign(
        action_id=np.where(umbrella, "umbrella", "sunglasses"),
        probability=np.where(umbrella, umbrella_chance, 1 - umbrella_chance),
        candidates=[ACTIONS[:2]] * n,
        context_weights=[(1.0, 1.0)] * n,
        values=[(1.0, 1.0)] * n,
        success=success.astype(int),
        reward=success.astype(float),
    )
    assert examples.groupby("action_id")["reward"].mean().idxmax() == "umbrella"
    ranking = constant_ranking(drawn_decisions(examples, tiny_catalog()), "reward")
    assert ranking["home_hero"][0] == "sunglasses"


@pytest.fixture(scope="module")
def trained() -> tuple[pd.DataFrame, Bundle]:
    examples = tiny_examples(600)
    return examples, train(examples, Settings(), catalog=tiny_catalog(), now=NOW, register=False).bundle


def test_priority_is_propensity_times_weight_and_value_as_logged_and_lever(
    trained: tuple[pd.DataFrame, Bundle],
) -> None:
    examples, bundle = trained
    logged = examples.assign(context_weights=[(1.0, 3.0, 1.0)] * 600, values=[(7.0, 10.0, 1.0)] * 600)
    scorer, features = GraphScorer(bundle.graph), bundle.manifest.features
    decisions = drawn_decisions(logged, tiny_catalog())
    encoded = candidate_rows(features, decisions, tiny_catalog())
    ranked = priorities(scorer, features, encoded, decisions, levered(umbrella=2.0))
    np.testing.assert_allclose(ranked, scorer.score(encoded).propensity.reshape(600, 3) * [14.0, 30.0, 1.0])


def test_what_ranks_by_uplift_is_ranked_by_the_propensity_above_that_of_no_action(
    trained: tuple[pd.DataFrame, Bundle],
) -> None:
    examples, bundle = trained
    scorer, features = GraphScorer(bundle.graph), bundle.manifest.features
    decisions = drawn_decisions(examples, tiny_catalog())
    encoded = candidate_rows(features, decisions, tiny_catalog())
    propensity = scorer.score(encoded).propensity.reshape(600, 3)
    ranked = priorities(scorer, features, encoded, decisions, levered(rank_by="uplift", umbrella=1.0))
    above = np.maximum(0.0, propensity[:, 0] - propensity[:, 2])
    assert (above > 0.0).any()
    np.testing.assert_allclose(ranked, np.stack([above * 10.0, propensity[:, 1] * 10.0, propensity[:, 2]], axis=1))


def test_an_uplift_that_the_model_learnt_ranks_instead() -> None:
    shop, examples = opposed_catalog(), opposed_shop(1500).examples
    bundle = train(examples, Settings(), catalog=shop, now=NOW, register=False).bundle
    scorer, features = verified_scorer(bundle), bundle.manifest.features
    decisions = drawn_decisions(examples, shop)
    encoded = candidate_rows(features, decisions, shop)
    scored = scorer.score(encoded)
    assert scored.uplift is not None
    uplift, propensity = scored.uplift.reshape(1500, 3), scored.propensity.reshape(1500, 3)
    ranked = priorities(scorer, features, encoded, decisions, shop)
    expected = np.concatenate([np.maximum(0.0, uplift[:, :2]) * 10.0, propensity[:, 2:]], axis=1)
    np.testing.assert_allclose(ranked, expected)


def levered(rank_by: str = "response", **levers: float) -> Catalog:
    """The tiny catalogue with other levers, and what these rank by."""
    content = tiny_catalog().content
    actions = tuple(
        msgspec.structs.replace(each, lever=levers[each.id], rank_by=rank_by) if each.id in levers else each
        for each in content.actions
    )
    return Catalog(msgspec.structs.replace(content, actions=actions), version="sha256:levered")
