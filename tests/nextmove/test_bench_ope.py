"""Every estimator gives what the reference implementation gave, and intervals hold the truth as often as they say."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decisioning.errors import DataError
from nextmove.bench_obd import PUBLISHED, obd_errors
from nextmove.bench_ope import TOLERANCES, golden_agreements, simulated_coverage

FOLDER = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data"))
DATA, OBD = FOLDER / "ope_golden", FOLDER / "obd"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there; set NEXTMOVE_DATA")
def test_estimates_of_synthetic_real_and_slate_logs_are_those_of_the_reference() -> None:
    found = golden_agreements(DATA)
    assert len(found) == 11 + 11 + 7
    for each in found:
        assert each.error <= TOLERANCES[each.log], each


@pytest.mark.skipif(not (DATA.is_dir() and OBD.is_dir()), reason=f"{OBD} is not there; set NEXTMOVE_DATA")
def test_errors_on_the_open_bandit_dataset_are_those_of_its_protocol() -> None:
    found = obd_errors(OBD, DATA, bootstraps=1)
    by = {each.estimator: each for each in found.errors}
    assert list(by) == list(PUBLISHED)
    # IPS hangs on the log and the target's chances alone: of the first draw it is known to the last digit.
    random, _ = (pd.read_csv(OBD / policy / "all" / "all.csv").sort_values("timestamp") for policy in ("random", "bts"))
    rows = np.random.RandomState(0).choice(10_000, size=10_000)
    drawn = random.iloc[rows]
    chances = np.load(DATA / "obd_random_all.npz")["action_dist"][drawn["item_id"], drawn["position"] - 1]
    assert by["ips"].mean == pytest.approx(abs((chances * 80.0 * drawn["click"]).mean() / found.truth - 1.0))
    # It bounds what few rows decide, with either reward model.
    assert by["dros"].mean < by["ips"].mean


def test_without_the_data_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name its folder by --obd"):
        obd_errors(tmp_path, tmp_path, bootstraps=1)


def test_without_the_vectors_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name their folder by --data"):
        golden_agreements(tmp_path)


def test_intervals_hold_the_truth_nearly_as_often_as_they_say() -> None:
    # In short: four standard errors of 60 replications. The command takes 500.
    for each in simulated_coverage(replications=60, seed=1):
        assert each.is_as_stated, each
