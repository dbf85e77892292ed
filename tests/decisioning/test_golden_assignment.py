"""Assignments that must never change, in a file that any other language can be tested with."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decisioning.assignment_table import NO_PART, assignment_table
from decisioning.content_types import BUCKETS
from decisioning.experiment_content import Experiment, Holdout, Layer
from decisioning.trial import Trial, bucket, is_held_out

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "assignment.json").read_text(encoding="utf-8"))


def trial_of(case: dict[str, Any]) -> Trial:
    return Trial(msgspec.convert(case["experiment"], Experiment), msgspec.convert(case["layer"], Layer | None))


@pytest.mark.parametrize("case", GOLDEN["buckets"], ids=lambda case: f"{case['salt']}:{case['unit']}")
def test_a_bucket_is_the_hash_modulo_their_number(case: dict[str, Any]) -> None:
    assert bucket(case["salt"], case["unit"]) == case["bucket"] == case["hash"] % BUCKETS


@pytest.mark.parametrize("case", GOLDEN["experiments"], ids=lambda case: case["what"])
def test_units_get_the_variants_of_the_file_one_by_one(case: dict[str, Any]) -> None:
    trial = trial_of(case)
    lots = {unit: trial.lot(unit) for unit in case["units"]}
    assert {unit: lot and lot.variant.id for unit, lot in lots.items()} == case["units"]


def test_units_get_the_variants_of_the_file_all_at_once() -> None:
    cases = GOLDEN["experiments"]
    units = list(cases[0]["units"])
    table = assignment_table([trial_of(case) for case in cases], units)
    for case, places in zip(cases, table.T.tolist(), strict=True):
        names = [variant["id"] for variant in case["experiment"]["variants"]]
        found = [None if place == NO_PART else names[place] for place in places]
        assert dict(zip(units, found, strict=True)) == case["units"]


@pytest.mark.parametrize("case", GOLDEN["holdouts"], ids=lambda case: f"{case['salt']} {case['share']}")
def test_the_same_units_are_held_out(case: dict[str, Any]) -> None:
    holdout = Holdout(share=case["share"], salt=case["salt"])
    assert all(is_held_out(holdout, unit) for unit in case["held_out"])
    assert not any(is_held_out(holdout, unit) for unit in case["not"])
