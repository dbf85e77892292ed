"""Data domains: each is one file here, one file in `feature_repo/` and one folder in `catalog/`.

A domain gives what a company would bring: tables of customer features with their history, consents,
and a log of past decisions. Everything after `ingest` treats all domains alike. `files` makes one of
anybody's own data.
"""

from pathlib import Path
from typing import Protocol

import pandas as pd

from decisioning.errors import SetupError
from decisioning.profile import ConsentChange

LOG_COLUMNS = (
    "row_id", "customer_id", "decided_at", "placement", "action_id", "probability", "candidates", "context", "contacts",
    "reward", "success",
)  # fmt: skip


class Domain(Protocol):
    """A data set that Nextmove can learn from."""

    @property
    def name(self) -> str:
        """Name of the catalogue folder, the feature service and the models."""
        ...

    def log(self) -> pd.DataFrame:
        """Past decisions in order of time, one a row, columns as `LOG_COLUMNS`; an own copy.

        `row_id` is unique; `probability` is the chance with which `action_id` was chosen among
        `candidates`, NaN where nobody knows it; `contacts` are the customer's `Contact`s of the seven
        days before; `success` is 1 where the placement's reward was above 0. A domain may add columns
        of its own.
        """
        ...


class TabledDomain(Domain, Protocol):
    """One that gives its customers as whole tables."""

    @property
    def data_sha256(self) -> str:
        """Hash of the input: the same hash, the same tables, consents and log."""
        ...

    def tables(self) -> dict[str, pd.DataFrame]:
        """Feature tables by name: `customer_id`, `event_timestamp` (UTC, microseconds), features.

        The name is that of the parquet file which a view in `feature_repo` reads. A customer may
        have rows of several times; a missing number is NaN, a missing text None.
        """
        ...

    def consents(self) -> list[ConsentChange]:
        """What customers have said before the log begins."""
        ...


def open_domain(name: str, *, data: Path | None = None, seed: int = 1) -> TabledDomain:
    """The domain of this name, over `data` where it reads a file.

    Raises:
        SetupError: No such domain.
        DataError: The file is missing or wrong.
    """
    # A domain's module brings its own imports; the other one's are not paid for.
    if name == "simulated":
        from training.domains.simulated import Simulated

        return Simulated(seed=seed)
    if name == "hillstrom":
        from training.domains.hillstrom import Hillstrom

        return Hillstrom(data)
    raise SetupError(
        f"there is no domain '{name}', must be one of {', '.join(DOMAINS)}; of your own data: --mapping my.yaml",
        where="domain",
    )


DOMAINS = ("hillstrom", "simulated")
