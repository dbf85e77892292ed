"""The benchmark on real customers, in short: a sixth of the file, one split."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decisioning.evaluation import Estimate
from nextmove.bench_hillstrom import Half, corrected_mean, run_hillstrom
from storage.settings import Settings
from tests.training.test_uplift_quality import randomised, rng
from training.uplift_quality import rank_quality

DATA = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "hillstrom"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there; set NEXTMOVE_DATA")
def test_each_half_is_learnt_from_and_valued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = tmp_path / "hillstrom.csv"
    pd.read_csv(DATA / "hillstrom.csv", dtype=str).iloc[::6].to_csv(part, index=False)
    assert run_hillstrom(Settings(home=tmp_path / "home"), part, splits=1, seed=1, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [(row["split"], row["half"]) for row in found["halves"]] == [(0, 0), (0, 1)]
    assert [each["holds"] for each in found["targets"]] == [None] * 3  # too few splits to judge
    assert found["holds"]
    for row in found["halves"]:
        assert abs(row["over_mens"]) < 0.05
        assert row["over_uniform"] > 0.0
        assert -0.2 < row["qini_low"] < row["qini"] < row["qini_high"] < 0.3
        assert "mens_email" in row["gate"]


@pytest.mark.parametrize(("low", "claims", "is_honest"), [(-0.1, True, False), (-0.1, False, True), (0.1, True, True)])
def test_a_win_that_is_claimed_without_evidence_is_found(low: float, claims: bool, is_honest: bool) -> None:
    over = Estimate(low + 0.2, low, low + 0.4, 100, 100.0)
    womens = rank_quality("w", randomised(200)[0], rng=rng(), replications=2)
    assert Half(0, 0, over, over, "said", claims, womens).is_honest == is_honest


def test_the_interval_of_the_mean_does_not_shrink_with_more_splits_of_the_same_rows() -> None:
    few, many = (corrected_mean(np.resize([0.0, 1.0], n)) for n in (40, 4000))
    assert few[0] == many[0] == 0.5
    assert many[2] - many[1] == pytest.approx(few[2] - few[1], rel=0.1)
