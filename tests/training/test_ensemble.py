"""The ensemble: what training fits, what the graph gives, and what is sent by it."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest

from decisioning.bundle import Bundle, pack
from decisioning.catalog import Catalog
from decisioning.errors import BundleError
from decisioning.exploration import BootstrapThompson
from decisioning.replay import replay
from serving.adapters.onnx_scorer import OnnxScorer
from storage.settings import Settings
from tests.builders import placement
from tests.nextmove.test_linear_served import KEY, decided
from tests.training.opposed_shop import opposed_catalog, opposed_shop
from tests.training.test_export import manifest
from tests.training.tiny_shop import NOW, tiny_catalog, tiny_examples
from training.ensemble import MEMBERS, customer_draws, fit_ensemble
from training.export import OneGraph, check_parity, export_graph
from training.graph_scorer import open_session, verified_scorer
from training.model_input import encode_shown
from training.probe import synthetic_rows
from training.propensity import fit_propensity
from training.training_run import train
from training.uplift import fit_uplift

SENT = placement(slots=1, shown_by="sent", reward={"purchase": "value"}, exploration=BootstrapThompson())


def fitted(examples: pd.DataFrame, shop: Catalog, *, seed: int = 1) -> OneGraph:
    model, rows = fit_propensity(examples, shop, seed=1)
    success, customers = (examples[name].to_numpy() for name in ("success", "customer_id"))
    return OneGraph(model, None, fit_ensemble(model, rows, success, customers, seed=seed))


@pytest.fixture(scope="module")
def models() -> OneGraph:
    return fitted(tiny_examples(900), tiny_catalog())


@pytest.fixture(scope="module")
def bundle(models: OneGraph) -> Bundle:
    graph = export_graph(models.model, None, models.members)
    return pack(manifest(models, graph), graph)[1]


def edge_rows(models: OneGraph) -> np.ndarray:
    return synthetic_rows(models.features, models.edges, rng=np.random.default_rng(0))


def boosters(models: OneGraph) -> list[str]:
    return [member.booster.model_to_string() for member in models.members]


def test_all_rows_of_a_customer_are_drawn_as_often() -> None:
    customers = np.array([f"c-{number % 400}" for number in range(2000)])
    draws = list(customer_draws(customers, seed=3))
    assert len(draws) == MEMBERS
    for times in draws:
        assert (times.reshape(5, 400) == times[:400]).all()
    # Poisson(1): of 4,000 draws the mean is 1 and a share of exp(-1) is 0, both within four standard errors.
    drawn = np.concatenate([times[:400] for times in draws])
    assert abs(drawn.mean() - 1.0) < 4.0 / np.sqrt(4000)
    assert abs((drawn == 0).mean() - np.exp(-1.0)) < 4.0 * np.sqrt(0.2325 / 4000)


def test_members_differ_from_each_other_and_not_with_the_same_seed(models: OneGraph) -> None:
    assert len(set(boosters(models))) == MEMBERS
    again = fitted(tiny_examples(900), tiny_catalog())
    assert boosters(again) == boosters(models)
    other = fitted(tiny_examples(900), tiny_catalog(), seed=2)
    assert not set(boosters(other)) & set(boosters(models))


def test_members_have_as_many_trees_as_the_model_and_a_calibration_of_their_own(models: OneGraph) -> None:
    # One with nothing left to split ends before.
    assert max(member.booster.num_trees() for member in models.members) == models.model.booster.num_trees()
    assert len({member.calibration for member in models.members} | {models.model.calibration}) == MEMBERS + 1


def spread(examples: pd.DataFrame) -> float:
    """How far members are apart, as a mean standard deviation, on rows that they did not meet."""
    found = fitted(examples, tiny_catalog())
    asked = tiny_examples(900, seed=20).tail(300).reset_index(drop=True)
    members = found.scored(encode_shown(found.features, asked, tiny_catalog())).members
    assert members is not None
    return float(members.std(axis=1).mean())


def test_they_are_the_less_apart_the_more_is_learnt() -> None:
    few, many = (np.mean([spread(tiny_examples(n, seed=seed)) for seed in range(3)]) for n in (700, 5600))
    assert 0.0 < many < 0.7 * few


def test_where_nothing_can_be_learnt_they_do_not_agree_for_that() -> None:
    # 70 rows of a rate of .15 say it to .043: members calibrated on the same ones would all say the same.
    chance = (np.random.default_rng(3).random(700) < 0.15).astype(int)
    assert spread(tiny_examples(700, success=chance)) > 0.02


def test_the_graph_gives_what_each_member_says_on_every_edge(models: OneGraph, bundle: Bundle) -> None:
    onnx.checker.check_model(bundle.graph)
    rows = edge_rows(models)
    wanted = models.scored(rows)
    for scorer in (verified_scorer(bundle), OnnxScorer(bundle)):
        found = scorer.score(rows, with_members=True)
        assert found.members is not None
        assert wanted.members is not None
        assert found.members.shape == (len(rows), MEMBERS)
        np.testing.assert_allclose(found.members, wanted.members, rtol=0.0, atol=1e-5)
        np.testing.assert_allclose(found.propensity, wanted.propensity, rtol=0.0, atol=1e-5)
        alone = scorer.score(rows)
        assert alone.members is None
        np.testing.assert_array_equal(alone.propensity, found.propensity)


def test_without_the_switch_the_graph_computes_no_member(models: OneGraph, bundle: Bundle) -> None:
    [members] = open_session(bundle.graph).run(["members"], {"features": edge_rows(models)[:50]})
    assert members.shape == (0, MEMBERS)


def test_uplift_and_members_share_a_graph() -> None:
    examples, shop = opposed_shop(1000).examples, opposed_catalog()
    both = fitted(examples, shop)
    all_of_it = OneGraph(both.model, fit_uplift(examples, both.features, shop, seed=1), both.members)
    built = manifest(all_of_it, export_graph(all_of_it.model, all_of_it.uplift, all_of_it.members))
    assert (built.outputs, built.n_members) == (("propensity", "uplift"), MEMBERS)
    assert len(built.expected_scores) == 2 + MEMBERS


def test_a_member_that_differs_is_refused(models: OneGraph) -> None:
    others = (*models.members[:3], models.model, *models.members[4:])
    graph = export_graph(models.model, None, others)
    with pytest.raises(BundleError, match=r"the ONNX graph differs from the model on .*: members\[3\] of the graph"):
        check_parity(graph, models, edge_rows(models))


def test_a_graph_without_the_members_of_its_manifest_is_refused(models: OneGraph, bundle: Bundle) -> None:
    lying = msgspec.structs.replace(bundle, graph=export_graph(models.model))
    for take in (verified_scorer, OnnxScorer):
        with pytest.raises(BundleError, match="members"):
            take(lying)


def trained(shop: Catalog, n: int, learner: str = "lightgbm") -> Bundle:
    settings = Settings(home=Path("unused"), domain="tiny")
    return train(tiny_examples(n), settings, catalog=shop, now=NOW, register=False, learner=learner).bundle


def test_where_no_placement_asks_for_it_none_is_fitted() -> None:
    plain = trained(tiny_catalog(), 600)
    assert plain.manifest.n_members == 0
    asked = trained(tiny_catalog(placements=(SENT,)), 600)
    assert asked.manifest.n_members == MEMBERS
    assert len(asked.graph) > 5 * len(plain.graph)
    assert trained(tiny_catalog(placements=(SENT,)), 600, "linear").manifest.n_members == 0


def test_what_is_sent_is_drawn_by_the_shares_of_the_members() -> None:
    shop = tiny_catalog(placements=(SENT,))
    records = decided(OnnxScorer(trained(shop, 600)), shop, weather="hail")  # which nobody knows
    for record in records:
        worth = np.array([np.array(each.members) * each.value for each in record.candidates])
        best = worth == worth.max(axis=0)
        share = (best / best.sum(axis=0)).mean(axis=1)  # one that knows nothing shares its vote
        assert [each.weight if each.tier == 0 else 0.0 for each in record.candidates] == pytest.approx(share.tolist())
        assert any(record.slots[0].probability == pytest.approx(each) for each in share)
        assert replay(record, shop, key=KEY.secret).identical
    assert len({record.slots[0].action_id for record in records}) == 2  # umbrellas and sunglasses
