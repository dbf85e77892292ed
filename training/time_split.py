"""Four slices in the order of time: each step of learning is judged on what came after it."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from decisioning.errors import DataError

TEST_SHARE = 0.25
# Of what is earlier than the test slice.
SHARES = {"train": 0.74, "valid": 0.13, "calibration": 0.13}
SMALLEST_SLICE = 50


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Ranges of rows, in the order of time; no instant is in two of them.

    `train` fits the trees, `valid` says how many are enough, `calibration` fits the calibration,
    and `test`, later than all, is what the report rests on. Customers may recur.
    """

    train: slice
    valid: slice
    calibration: slice
    test: slice
    boundaries: tuple[datetime, datetime, datetime]  # the first instant of valid, calibration, test
    trained_until: datetime  # the last instant that any slice but `test` holds


def split_by_time(decided_at: pd.Series, *, test_share: float = TEST_SHARE) -> TimeSplit:
    """Split rows that are sorted by time; a cut moves to the end of its instant.

    `test_share` of the rows, the latest, are the test slice, the rest is split into `SHARES`. A
    gate needs a large one; where no gate follows, the newest rows are better learnt from.

    Raises:
        DataError: Rows are not sorted, or a slice would have fewer than 50 rows.
    """
    if not decided_at.is_monotonic_increasing:
        raise DataError("the examples are not sorted by decided_at; build them with `examples.combined`")
    cuts = []
    for share in np.cumsum(list(SHARES.values())) * (1.0 - test_share):
        at = round(share * len(decided_at))
        # A later cut on the same instant would put twins on both sides.
        cuts.append(int(decided_at.searchsorted(decided_at.iloc[max(at - 1, 0)], side="right")) if at else 0)
    edges = [0, *cuts, len(decided_at)]
    sizes = dict(zip((*SHARES, "test"), np.diff(edges).tolist(), strict=True))
    small = [f"{name} {size}" for name, size in sizes.items() if size < SMALLEST_SLICE]
    if small:
        raise DataError(
            f"{len(decided_at)} examples do not split by time into slices of at least {SMALLEST_SLICE}"
            f" ({', '.join(small)}); log more decisions, or give them the times at which they were taken"
        )
    starts = [decided_at.iloc[cut].to_pydatetime() for cut in cuts]
    return TimeSplit(
        train=slice(edges[0], edges[1]),
        valid=slice(edges[1], edges[2]),
        calibration=slice(edges[2], edges[3]),
        test=slice(edges[3], edges[4]),
        boundaries=(starts[0], starts[1], starts[2]),
        trained_until=decided_at.iloc[cuts[-1] - 1].to_pydatetime(),
    )
