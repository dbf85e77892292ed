from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from decisioning.content_types import BUCKETS
from decisioning.experiment_content import Experiment, Layer, Variant
from decisioning.trial import Lot, Trial, bucket
from tests.builders import experiment

UNITS = [f"c-{number}" for number in range(20_000)]


def lot(of: Experiment, unit: str) -> Lot:
    found = Trial(of).lot(unit)
    assert found is not None
    return found


def variants(of: Experiment, layer: Layer | None = None) -> dict[str, str]:
    """By unit, of those who take part."""
    trial = Trial(of, layer)
    return {unit: found.variant.id for unit in UNITS if (found := trial.lot(unit)) is not None}


def about(share: float, of: int) -> float:
    """Four standard errors."""
    return 4 * float(np.sqrt(share * (1 - share) / of))


def test_shares_are_those_of_the_weights_within_binomial_bounds() -> None:
    test = experiment(variants=(Variant(id="a", weight=1.0), Variant(id="b", weight=2.0), Variant(id="c", weight=1.0)))
    counts = Counter(lot(test, unit).variant.id for unit in UNITS)
    for variant, share in (("a", 0.25), ("b", 0.5), ("c", 0.25)):
        assert abs(counts[variant] / len(UNITS) - share) < about(share, len(UNITS))


def test_experiments_with_different_salts_are_independent() -> None:
    pairs = Counter(
        (lot(experiment(id="one"), unit).variant.id, lot(experiment(id="two"), unit).variant.id) for unit in UNITS
    )
    for pair in pairs:
        assert abs(pairs[pair] / len(UNITS) - 0.25) < about(0.25, len(UNITS))


def test_the_salt_moves_units_and_the_id_alone_does_not() -> None:
    renamed = experiment(id="renamed", salt="hero_copy")
    assert all(lot(renamed, unit).variant.id == lot(experiment(), unit).variant.id for unit in UNITS[:100])


@pytest.mark.parametrize(("unit", "expected"), [("c-1", 6735), ("", 4505), ("ümläut-☃", 2575)])
def test_buckets_never_change(unit: str, expected: int) -> None:
    assert bucket("hero_copy", unit) == expected


def test_every_bucket_has_a_variant() -> None:
    thirds = experiment(variants=tuple(Variant(id=name, weight=1 / 3) for name in "abc"))
    assert {lot(thirds, unit).variant.id for unit in UNITS} == {"a", "b", "c"}
    assert {bucket("x", unit) for unit in UNITS} <= set(range(BUCKETS))


def test_one_variant_takes_everyone() -> None:
    assert lot(experiment(variants=(Variant(id="only", weight=0.01),)), "c-1").probability == 1.0


def test_experiments_of_one_layer_share_no_unit_and_those_of_two_are_independent() -> None:
    layer, other = Layer("checkout"), Layer("prices")
    first = variants(experiment(id="one", layer="checkout", slice=(0.0, 0.3)), layer)
    second = variants(experiment(id="two", layer="checkout", slice=(0.3, 1.0)), layer)
    elsewhere = variants(experiment(id="three", layer="prices", slice=(0.0, 0.5)), other)
    assert not first.keys() & second.keys()
    assert first.keys() | second.keys() == set(UNITS)
    assert abs(len(first.keys() & elsewhere.keys()) / len(UNITS) - 0.15) < about(0.15, len(UNITS))
    of_a = [unit for unit, variant in first.items() if variant == "a"]
    assert abs(len(of_a) / len(first) - 0.5) < about(0.5, len(first)), (
        "a variant does not hang on the place in the layer"
    )


def test_a_ramp_lets_units_in_and_moves_none() -> None:
    ramped = [variants(experiment(traffic=share)) for share in (0.05, 0.3, 1.0)]
    for fewer, more in pairwise(ramped):
        assert fewer.items() <= more.items()
    assert abs(len(ramped[1]) / len(UNITS) - 0.3) < about(0.3, len(UNITS))
    of_a = sum(variant == "a" for variant in ramped[1].values())
    assert abs(of_a / len(ramped[1]) - 0.5) < about(0.5, len(ramped[1]))


def test_a_wider_slice_moves_nobody_who_is_in() -> None:
    layer = Layer("checkout")
    narrow, wide = (variants(experiment(layer="checkout", slice=(0.2, end)), layer) for end in (0.3, 0.9))
    assert narrow.items() <= wide.items()


def test_a_new_version_begins_anew() -> None:
    before, after = variants(experiment()), variants(experiment(version=2))
    stayed = sum(before[unit] == after[unit] for unit in UNITS) / len(UNITS)
    assert abs(stayed - 0.5) < about(0.5, len(UNITS))


def test_a_tester_gets_the_variant_that_is_named_whatever_the_traffic() -> None:
    found = lot(experiment(traffic=0.0, testers={"c-1": "a"}), "c-1")
    assert (found.variant.id, found.probability, found.forced) == ("a", 1.0, True)
    assert Trial(experiment(traffic=0.0)).lot("c-1") is None
