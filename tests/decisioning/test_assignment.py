from collections import Counter

import numpy as np
import pytest

from decisioning.assignment import BUCKETS, assign, bucket
from decisioning.content import Variant
from tests.builders import experiment

UNITS = [f"c-{number}" for number in range(20_000)]


def test_shares_are_those_of_the_weights_within_binomial_bounds() -> None:
    test = experiment(variants=(Variant("a", 1.0), Variant("b", 2.0), Variant("c", 1.0)))
    counts = Counter(assign(test, unit).variant for unit in UNITS)
    for variant, share in (("a", 0.25), ("b", 0.5), ("c", 0.25)):
        assert abs(counts[variant] / len(UNITS) - share) < 4 * np.sqrt(share * (1 - share) / len(UNITS))


def test_experiments_with_different_salts_are_independent() -> None:
    pairs = Counter(
        (assign(experiment(id="one"), unit).variant, assign(experiment(id="two"), unit).variant) for unit in UNITS
    )
    for pair in pairs:
        assert abs(pairs[pair] / len(UNITS) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(UNITS))


def test_the_salt_moves_units_and_the_id_alone_does_not() -> None:
    renamed = experiment(id="renamed", salt="hero_copy")
    assert all(assign(renamed, unit).variant == assign(experiment(), unit).variant for unit in UNITS[:100])


@pytest.mark.parametrize(("unit", "expected"), [("c-1", 6735), ("", 4505), ("ümläut-☃", 2575)])
def test_buckets_never_change(unit: str, expected: int) -> None:
    assert bucket("hero_copy", unit) == expected


def test_every_bucket_has_a_variant() -> None:
    thirds = experiment(variants=tuple(Variant(name, 1 / 3) for name in "abc"))
    assert {assign(thirds, unit).variant for unit in UNITS} == {"a", "b", "c"}
    assert {bucket("x", unit) for unit in UNITS} <= set(range(BUCKETS))


def test_one_variant_takes_everyone() -> None:
    assert assign(experiment(variants=(Variant("only", 0.01),)), "c-1").probability == 1.0
