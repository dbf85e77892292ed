"""The table says of every unit what the single path says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from decisioning.assignment_table import CHUNK, NO_PART, Ids, assignment_table
from decisioning.content_types import BUCKETS
from decisioning.experiment_content import Layer, Variant
from decisioning.trial import Trial, bucket
from tests.builders import experiment

UNITS = st.text(st.characters(codec="utf-8"), max_size=40)
SHARES = st.integers(0, 20).map(lambda twentieths: twentieths / 20)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    weights = draw(st.lists(st.sampled_from([0.1, 1.0, 2.5]), min_size=1, max_size=5))
    variants = tuple(Variant(id=f"v{number}", weight=weight) for number, weight in enumerate(weights))
    layer = draw(st.none() | st.builds(Layer, st.just("checkout"), st.sampled_from(["", "ümläut"])))
    begin, end = sorted(draw(st.tuples(SHARES, SHARES)))
    return Trial(
        experiment(
            id=draw(st.text("abc_", min_size=1, max_size=9)),
            salt=draw(st.just("") | UNITS),
            version=draw(st.integers(1, 3)),
            variants=variants,
            layer=layer and layer.id,
            slice=(begin, end),
            traffic=draw(SHARES),
            testers=draw(st.dictionaries(UNITS, st.sampled_from([each.id for each in variants]), max_size=3)),
        ),
        layer,
    )


def one_by_one(of: Sequence[Trial], units: Sequence[str]) -> NDArray[np.int16]:
    def place(trial: Trial, unit: str) -> int:
        lot = trial.lot(unit)
        return NO_PART if lot is None else trial.experiment.variants.index(lot.variant)

    return np.array([[place(trial, unit) for trial in of] for unit in units], dtype=np.int16)


@settings(max_examples=200, deadline=None)
@given(st.lists(trials(), min_size=1, max_size=4), st.lists(UNITS, min_size=1, max_size=30))
def test_it_is_what_the_single_path_says(of: list[Trial], units: list[str]) -> None:
    units += [tester for trial in of for tester in trial.experiment.testers]
    assert np.array_equal(assignment_table(of, units), one_by_one(of, units))


def test_salts_and_units_of_every_length_are_hashed_the_same() -> None:
    of = [Trial(experiment(salt="salted"[:length], traffic=0.5)) for length in range(1, 7)]
    units = ["ö" * (length % 2) + "x" * length for length in range(41)]
    assert np.array_equal(assignment_table(of, units), one_by_one(of, units))


def test_the_edges_of_slice_traffic_and_variants_are_the_same_to_the_bucket() -> None:
    layer, of = Layer("checkout"), []
    place, draw, let_in = (bucket(salt, "c-1") / BUCKETS for salt in ("checkout", "hero_copy", "hero_copy:traffic"))
    step = 1 / BUCKETS
    for begin, end in ((place, place + step), (place + step, 1.0), (0.0, place), (place - step, place + step)):
        of.append(Trial(experiment(layer="checkout", slice=(begin, end)), layer))
    of += [Trial(experiment(traffic=let_in)), Trial(experiment(traffic=let_in + step))]
    for first in (draw, draw + step):
        of.append(Trial(experiment(variants=(Variant(id="a", weight=first), Variant(id="b", weight=1 - first)))))
    table = assignment_table(of, ["c-1"])
    assert np.array_equal(table, one_by_one(of, ["c-1"]))
    assert table.tolist() == [[1, NO_PART, NO_PART, 1, NO_PART, 1, 1, 0]]


def test_more_units_than_are_worked_out_at_a_time_keep_their_places() -> None:
    units = [f"c-{number}" for number in range(CHUNK + 100)]
    of = [Trial(experiment(traffic=0.3)), Trial(experiment(id="prices", testers={units[-1]: "b", units[0]: "a"}))]
    table = assignment_table(of, units)
    some = [*range(50), *range(CHUNK - 50, CHUNK + 100)]
    assert np.array_equal(table[some], one_by_one(of, [units[place] for place in some]))
    assert table.shape == (CHUNK + 100, 2)
    assert table.dtype == np.int16


@pytest.mark.parametrize("kind", [str, bytes])
def test_arrays_of_texts_and_of_bytes_are_the_same_as_texts(kind: Any) -> None:
    units = ["c-1", "ümläut-☃", ""]
    of = [Trial(experiment()), Trial(experiment(id="prices", testers={"ümläut-☃": "a"}))]
    given_as: Ids = np.array(units if kind is str else [unit.encode() for unit in units])
    assert np.array_equal(assignment_table(of, given_as), one_by_one(of, units))


def test_nobody_and_no_experiment_give_an_empty_table() -> None:
    assert assignment_table([Trial(experiment())], []).shape == (0, 1)
    assert assignment_table([], ["c-1"]).shape == (1, 0)
