"""The simulated experiments are what they say they are, and a claim that does not hold is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from decisioning.errors import DataError
from nextmove.bench_experiments import Claim, alarmed, hillstrom, mismatches, run_experiments
from nextmove.experiment_worlds import LOOKS, UNITS, WORLDS, growing, learning, simulated

EMAILS = 300


@pytest.mark.parametrize("name", WORLDS)
def test_the_effect_of_a_world_is_the_one_that_is_asked_for(name: str) -> None:
    last = simulated(WORLDS[name], 40, lift=0.3, rng=np.random.default_rng(1)).last()
    values = [each.mean[:, 0] / each.mean[:, 1] for each in last]
    lifts = values[1] / values[0] - 1.0
    assert lifts.mean() == pytest.approx(0.3, abs=4 * lifts.std() / np.sqrt(40) + 0.01)
    assert (last.control.count + last.variant.count == LOOKS * UNITS).all()


def test_units_add_up_from_look_to_look_and_values_grow_where_they_are_to() -> None:
    rng = np.random.default_rng(2)
    for found in (simulated(WORLDS["visits"], 3, lift=0.0, rng=rng), learning(3, own=True, rng=rng)):
        assert ((found.control.count + found.variant.count) == UNITS * np.arange(1, LOOKS + 1)).all()
    grown = growing(3, rng=rng)
    assert (np.diff(grown.control.mean[:, [0, LOOKS - 1], 0], axis=1) > 0.5).all()


def test_a_bandit_learns_which_action_is_best() -> None:
    found = learning(20, own=False, rng=np.random.default_rng(3))
    rate = found.control.mean[..., 0].mean(axis=0)
    assert rate[0] < 0.16
    assert rate[-1] > 0.18


def test_an_interval_that_is_too_narrow_is_alarmed_more_often() -> None:
    found = simulated(WORLDS["visits"], 60, lift=0.0, rng=np.random.default_rng(4))
    assert alarmed(found, 0.5) > 0.9
    assert alarmed(found) <= 0.05


def test_a_mismatch_is_found_where_there_is_one() -> None:
    rng = np.random.default_rng(5)
    assert mismatches(500, 0.5, rng) <= 0.01
    assert mismatches(500, 0.54, rng) > 0.95


@pytest.mark.parametrize(("figure", "holds"), [(0.0, True), (0.05, True), (0.051, False), (float("nan"), False)])
def test_a_claim_holds_within_its_bounds(figure: float, holds: bool) -> None:
    assert Claim("x", figure, 0.0, 0.05).holds is holds


def emails(path: Path) -> Path:
    rng = np.random.default_rng(6)
    lines = ["segment,history,visit,spend"]
    for number in range(3 * EMAILS):
        segment = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")[number % 3]
        lines.append(f"{segment},{rng.gamma(2.0, 100.0):.2f},{int(rng.random() < 0.3)},{rng.gamma(1.0, 5.0):.2f}")
    file = path / "hillstrom.csv"
    file.write_text("\n".join(lines))
    return file


def test_the_whole_bench_prints_what_holds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_experiments(emails(tmp_path), experiments=100, seed=1, as_json=True)
    found = json.loads(capfd.readouterr().out)
    assert all(claim["holds"] for claim in found["claims"])
    assert set(found["hillstrom"]) == {
        f"{name}, {metric}" for name in ("mens", "womens") for metric in ("visit", "spend")
    }


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*hillstrom"):
        hillstrom(tmp_path)
