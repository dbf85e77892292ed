"""That what `nextmove bench assignment` times is what it says."""

import json

import pytest

from nextmove.bench_assignment import EXPERIMENTS, NOW, PLACEMENT, generated, run_assignment


def test_it_counts_the_assignments_that_the_single_path_makes(capsys: pytest.CaptureFixture[str]) -> None:
    run_assignment(units=300, as_json=True)
    cost = json.loads(capsys.readouterr().out)
    trials = generated().trials(PLACEMENT, now=NOW)
    lots = [trial.lot(f"customer-{number:08d}") for number in range(300) for trial in trials]
    assert cost["assigned"] == sum(lot is not None for lot in lots) > 0
    assert (cost["units"], cost["experiments"]) == (300, len(trials)) == (300, EXPERIMENTS)
    assert cost["ratio"] == pytest.approx(cost["one_by_one"] / cost["seconds"])
    assert 0 < cost["caller_p50"] <= cost["caller_p99"]
