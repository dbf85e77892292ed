"""A decision that is decided again is so under the variants of whoever it was for."""

import pytest

from decisioning.catalog import Release
from decisioning.content_types import NO_ACTION
from decisioning.experiment_content import Experiment, Variant
from decisioning.exploration import EpsilonGreedy, Greedy
from decisioning.record import DecisionRecord
from tests.builders import experiment
from tests.random_shops import KEY
from tests.training.test_what_if import Model, logged, shop
from training.redecide import Comparison, PolicyComparison, Redecision

UNIFORM = EpsilonGreedy(epsilon=1.0)
COUNT = 40


def half(**change: object) -> Experiment:
    """Half of the customers get the change."""
    return experiment(variants=(Variant(id="a"), Variant(id="b", **change)))  # type: ignore[arg-type]


def compared(new: Release, old: Release) -> Redecision:
    releases = {each.version: each for each in (old, new)}
    return Comparison(
        new, releases=releases.__getitem__, models=lambda _: Model(), key_of=lambda _: KEY.secret
    )  # fmt: skip


def variant_of(record: DecisionRecord) -> str:
    [assignment] = record.assignments
    return assignment.variant


def test_under_a_new_catalogue_only_units_of_the_changed_variant_change() -> None:
    old = shop(exploration=Greedy(), experiments=(half(),))
    new = shop(exploration=Greedy(), experiments=(half(exploration=UNIFORM),), version="sha256:new")
    comparison = compared(new, old)
    records = logged(old, COUNT)
    assert {variant_of(record) for record in records} == {"a", "b"}
    for record in records:
        after = comparison.shift(record).after
        if variant_of(record) == "a":
            assert after == {"card": 1.0}
        else:
            assert after == pytest.approx({"card": 1 / 3, "loan": 1 / 3, NO_ACTION: 1 / 3})


def test_a_lever_of_a_variant_ranks_again() -> None:
    old = shop(exploration=Greedy())
    new = shop(exploration=Greedy(), experiments=(half(levers={"loan": 50.0}),), version="sha256:new")
    comparison = compared(new, old)
    chosen = {next(iter(comparison.shift(record).after)) for record in logged(old, COUNT)}
    assert chosen == {"card", "loan"}


def test_a_decision_under_a_variant_is_the_same_again_under_its_own_catalogue() -> None:
    served = shop(exploration=Greedy(), experiments=(half(exploration=UNIFORM),))
    comparison = compared(served, served)
    for record in logged(served, COUNT):
        assert comparison.shift(record).changed == pytest.approx(0.0)


@pytest.mark.parametrize("change", [{}, {"exploration": UNIFORM}], ids=["payload alone", "exploration"])
def test_another_policy_is_that_of_every_variant(change: dict[str, object]) -> None:
    served = shop(experiments=(half(**change),))
    comparison = PolicyComparison(
        Greedy(), "test", releases=lambda _: served, models=lambda _: Model(), key_of=lambda _: KEY.secret
    )
    for record in logged(served, COUNT):
        assert comparison.shift(record).after == {"card": 1.0}
