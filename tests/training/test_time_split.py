from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from decisioning.errors import DataError
from training.time_split import SHARES, split_by_time


def times(hours: list[int] | np.ndarray) -> pd.Series:
    return pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.asarray(hours), unit="h"))


def test_slices_follow_each_other_and_cover_everything() -> None:
    at = times(np.arange(1000))
    split = split_by_time(at)
    places = [range(*getattr(split, name).indices(1000)) for name in (*SHARES, "test")]
    assert [place for part in places for place in part] == list(range(1000))
    assert [len(part) for part in places] == [555, 97, 98, 250]
    assert split.trained_until == at.iloc[749].to_pydatetime()
    assert split.boundaries[2] == at.iloc[750].to_pydatetime()


def test_no_instant_is_in_two_slices() -> None:
    at = times(np.sort(np.random.default_rng(0).integers(0, 12, 2000)))
    split = split_by_time(at)
    parts = [set(at.iloc[getattr(split, name)]) for name in (*SHARES, "test")]
    assert all(not (first & second) for first, second in pairwise(parts))
    assert at.iloc[split.test].min() > split.trained_until


def test_rows_of_one_instant_cannot_be_split() -> None:
    with pytest.raises(DataError, match="do not split by time"):
        split_by_time(times(np.zeros(1000)))


def test_rows_that_are_not_sorted_are_refused() -> None:
    with pytest.raises(DataError, match="not sorted"):
        split_by_time(times(np.arange(1000)[::-1]))
