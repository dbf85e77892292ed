"""Every estimator gives what the reference implementation gave, and intervals hold the truth as often as they say."""

import os
from pathlib import Path

import pytest

from decisioning.errors import DataError
from nextmove.bench_ope import TOLERANCES, golden_agreements, simulated_coverage

DATA = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ope_golden"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there; set NEXTMOVE_DATA")
def test_estimates_of_synthetic_real_and_slate_logs_are_those_of_the_reference() -> None:
    found = golden_agreements(DATA)
    assert len(found) == 11 + 11 + 7
    for each in found:
        assert each.error <= TOLERANCES[each.log], each


def test_without_the_vectors_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name their folder by --data"):
        golden_agreements(tmp_path)


def test_intervals_hold_the_truth_nearly_as_often_as_they_say() -> None:
    # In short: four standard errors of 60 replications. The command takes 500.
    for each in simulated_coverage(replications=60, seed=1):
        assert each.is_as_stated, each
