"""MineThatData e-mail challenge (Kevin Hillstrom, 2008-03-20): real customers, three random arms.

A retailer sent a third of its recent customers an e-mail for men's merchandise, a third one for
women's, a third none, at random, and counted visits, conversions and spend for two weeks. Download
or read the file where it lies; it has no licence that would let us ship it.

The file has neither customer ids nor times. Ids are `h-` and the place in the file; `decided_at`
spreads the rows, in the file's order, evenly over a synthetic campaign of fourteen days from
2008-03-20, so that a split by time is a split by place. A success is a visit.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from decisioning.profile import ConsentChange
from training.domains import LOG_COLUMNS

CAMPAIGN_START = datetime(2008, 3, 20, tzinfo=UTC)
CAMPAIGN = timedelta(days=14)
FEATURES_AT = CAMPAIGN_START - timedelta(days=1)
PLACEMENT = "campaign"
ACTIONS = {"Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email", "No E-Mail": NO_ACTION}
CANDIDATES = tuple(ACTIONS.values())

LEVELS = {
    "history_segment": (
        "1) $0 - $100", "2) $100 - $200", "3) $200 - $350", "4) $350 - $500", "5) $500 - $750", "6) $750 - $1,000",
        "7) $1,000 +",
    ),
    "zip_code": ("Rural", "Surburban", "Urban"),  # spelled so in the file
    "channel": ("Multichannel", "Phone", "Web"),
    "segment": tuple(ACTIONS),
}  # fmt: skip
FLAGS = ("mens", "womens", "newbie", "visit", "conversion")
COLUMNS = (
    "recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel", "segment", "visit",
    "conversion", "spend",
)  # fmt: skip


class Hillstrom:
    """The challenge's file as a data set.

    Raises:
        DataError: No file is named, it cannot be read, or a value in it is not what it must be.
    """

    name = "hillstrom"

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise DataError(
                "the domain 'hillstrom' reads a file and none is named; pass --data or set NEXTMOVE_DATA to"
                " hillstrom.csv",
                where="data",
            )
        self._path = path
        self._frame = read(path)

    @cached_property
    def data_sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    def tables(self) -> dict[str, pd.DataFrame]:
        """What was known of each customer before the campaign."""
        frame = self._frame
        return {
            "profile": pd.DataFrame(
                {
                    "customer_id": self._customer_ids(),
                    "event_timestamp": pd.DatetimeIndex([pd.Timestamp(FEATURES_AT)]).as_unit("us").repeat(len(frame)),
                    **{name: frame[name] for name in ("recency", "history", "mens", "womens", "newbie")},
                    "history_segment": frame["history_segment"],
                    "zip_code": frame["zip_code"],
                    "purchase_channel": frame["channel"],
                }
            )
        }

    def consents(self) -> list[ConsentChange]:
        """None: the file holds no consents, so the catalogue's channel asks for none."""
        return []

    def log(self) -> pd.DataFrame:
        """See `Domain.log`; `conversion` and `spend` stand beside it."""
        frame, n = self._frame, len(self._frame)
        ids = self._customer_ids()
        at = pd.Timestamp(CAMPAIGN_START).as_unit("us") + pd.to_timedelta(
            (np.arange(n) * (CAMPAIGN.total_seconds() * 1e6 / n)).astype(np.int64), unit="us"
        )
        visit = frame["visit"].to_numpy()
        log = pd.DataFrame(
            {
                "row_id": [f"hillstrom-{customer_id[2:]}" for customer_id in ids],
                "customer_id": ids,
                "decided_at": pd.DatetimeIndex(at).as_unit("us"),
                "placement": PLACEMENT,
                "action_id": frame["segment"].map(ACTIONS),
                "probability": 1.0 / len(CANDIDATES),
                "candidates": [list(CANDIDATES) for _ in range(n)],
                "context": [{} for _ in range(n)],
                "contacts": [[] for _ in range(n)],
                "reward": visit.astype(np.float64),
                "success": visit.astype(np.int64),
                "conversion": frame["conversion"].astype(np.int64),
                "spend": frame["spend"],
            }
        )
        return log[[*LOG_COLUMNS, "conversion", "spend"]]

    def _customer_ids(self) -> list[str]:
        return [f"h-{number:06d}" for number in range(1, len(self._frame) + 1)]


def read(path: Path) -> pd.DataFrame:
    """The file, checked; numbers as float64.

    Raises:
        DataError: With the file, the column, the line and what is allowed.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; name the hillstrom.csv that you downloaded", where="data") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(
            f"{path} is empty, must be a CSV with the columns {', '.join(COLUMNS)}", where="data"
        ) from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read as CSV: {str(error).strip()}", where="data") from error
    missing = [name for name in COLUMNS if name not in text.columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}, must have {', '.join(COLUMNS)};"
            f" it has {', '.join(map(str, text.columns))}",
            where="data",
        )
    if text.empty:
        raise DataError(f"{path} has a header and no rows; at least one customer is needed", where="data")
    frame = pd.DataFrame(index=text.index)
    for name in COLUMNS:
        if name in LEVELS:
            _refuse(path, text[name], ~text[name].isin(LEVELS[name]), "one of " + ", ".join(LEVELS[name]))
            frame[name] = text[name]
            continue
        numbers = pd.to_numeric(text[name], errors="coerce").astype(np.float64)
        if name in FLAGS:
            _refuse(path, text[name], ~numbers.isin([0.0, 1.0]), "0 or 1")
        else:
            _refuse(path, text[name], ~numbers.between(0.0, np.inf, inclusive="left"), "a number of at least 0")
        frame[name] = numbers
    return frame


def _refuse(path: Path, column: pd.Series, wrong: pd.Series, allowed: str) -> None:
    """Raise if any value is wrong, naming the first; lines count from 1, the header's."""
    if wrong.any():
        first = int(np.flatnonzero(wrong.to_numpy())[0])
        others = int(wrong.sum()) - 1
        raise DataError(
            f"{path}, column '{column.name}', line {first + 2}: is '{column.iloc[first]}', must be {allowed}"
            + (f" ({others} more rows are wrong too)" if others else ""),
            where=f"{column.name}[{first + 2}]",
        )
