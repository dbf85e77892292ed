"""A domain made from one's own data by a mapping: customers that are ingested, and perhaps a log of decisions."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from decisioning.errors import DataError, SetupError
from storage.data_mapping import DataMapping, DecisionColumns, feature_column, read_data_mapping
from storage.ingested import FOLDER, RejectFile
from storage.mapped_decisions import DecisionMapper, LoggedDecision, ReadDecisions, found_context, read_decisions
from storage.row_files import RowFile
from storage.row_query import RowQuery
from storage.row_source import open_rows
from storage.settings import Settings
from training.domains import LOG_COLUMNS
from training.features import offline_path

SHOWN = 20


class Files:
    """One's own data as a domain.

    Attributes:
        name: The domain's, as the mapping says.
        mapping: What the data mean.
    """

    def __init__(self, settings: Settings, *, now: datetime, tell: Callable[[str], None]) -> None:
        """`tell` hears what is wrong with the log, when that is read.

        Raises:
            SetupError: No mapping is set.
            DataError: The mapping cannot be read.
        """
        if settings.mapping is None:
            raise SetupError(f"'{settings.domain}' needs a mapping: --mapping my.yaml, or NEXTMOVE_MAPPING")
        self.mapping: DataMapping = read_data_mapping(settings.mapping)
        self.name = self.mapping.name
        self._settings = settings
        self._folders = [folder for folder in (settings.data, settings.mapping.parent) if folder is not None]
        self._now = now
        self._tell = tell

    def customer_rows(self, *, origin: str | None = None, since: datetime | None = None) -> RowFile | RowQuery:
        """Where customers are read from: `origin`, or what the mapping says.

        Raises:
            DataError: Neither says, or there is no such file.
        """
        said = self.mapping.customers
        chosen = origin if origin is not None else said.origin
        if chosen is None:
            raise DataError(
                "the mapping does not say where customers are: write `from: customers.csv` into `customers`"
            )
        named = [feature_column(name, each).column for name, each in said.features.items()]
        needed = [*said.columns, *(column for column in named if column is not None)]
        folder = self._folder_of(chosen) if origin is None else Path()
        return open_rows(chosen, folder=folder, file=said.file, query=said.query, needed=needed, since=since)

    def log(self) -> pd.DataFrame:
        """See `Domain.log`; NaN where no probability is known. Empty where the mapping has no decisions.

        Raises:
            DataError: The log cannot be read, has no row that can be used, or nothing was known of its customers.
        """
        return self._log.copy()

    @cached_property
    def _log(self) -> pd.DataFrame:
        said = self.mapping.decisions
        if said is None:
            return pd.DataFrame(columns=list(LOG_COLUMNS))
        rows = self._decision_rows(said)
        file = said.file or self.mapping.customers.file
        mapper = DecisionMapper(said, file, found_context(rows.rows(), said, file), now=self._now)
        found = read_decisions(rows.rows(), mapper, said)
        self._report(rows.name, found)
        log = _frame(found.decisions)
        log["customer_id"] = log["customer_id"].map(self._settings.pseudonyms.of)
        self._compare_with_customers(log)
        return log

    def _decision_rows(self, said: DecisionColumns) -> RowFile | RowQuery:
        customers = self.mapping.customers
        origin, query = (said.origin, said.query) if said.origin is not None else (customers.origin, customers.query)
        if origin is None:
            raise DataError(
                "the mapping does not say where decisions are: write `from: decisions.csv` into `decisions`"
            )
        file = said.file or customers.file
        return open_rows(origin, folder=self._folder_of(origin), file=file, query=query, needed=said.columns)

    def _folder_of(self, origin: str) -> Path:
        """The folder of the data that has this file, or else the mapping's."""
        return next((folder for folder in self._folders if (folder / origin).is_file()), self._folders[-1])

    def _report(self, name: str, found: ReadDecisions) -> None:
        """Name the mistakes, and keep the rows."""
        folder = self._settings.home / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        with RejectFile(folder / f"decisions-{self.name}.rejected.jsonl", before=0) as rejects:
            for rejected in found.rejected:
                rejects.add(rejected)
        for rejected in found.rejected[:SHOWN]:
            self._tell(rejected.mistake.shown(name))
        if found.rejected:
            more = f", {len(found.rejected) - SHOWN:,} of them not shown" if len(found.rejected) > SHOWN else ""
            self._tell(f"{len(found.rejected):,} rows of {name} could not be used{more}: {rejects.path}")
        if not found.decisions:
            raise DataError(f"no row of {name} could be used; correct the mapping or the rows", where=name)

    def _compare_with_customers(self, log: pd.DataFrame) -> None:
        """Say of how many decisions nothing was known of the customer at their time."""
        path = offline_path(self._settings, self.name, "customers")
        if not path.is_file():
            raise SetupError(f"the customers of '{self.name}' are not ingested; run: nextmove ingest customers")
        table = pq.read_table(path, columns=["customer_id", "event_timestamp"]).to_pandas()
        first = log["customer_id"].map(table.groupby("customer_id")["event_timestamp"].min())
        strangers, early = int(first.isna().sum()), int((first > log["decided_at"]).sum())
        if strangers + early == len(log):
            raise DataError(
                f"of none of the {len(log):,} logged decisions anything is known of the customer at its time"
                f" ({strangers:,} of customers who are not ingested, {early:,} before their first row);"
                " see `id`, `time` and `since` of `customers` in the mapping"
            )
        if strangers:
            self._tell(f"{strangers:,} of {len(log):,} logged decisions are of customers who are not ingested")
        if early:
            self._tell(f"{early:,} of {len(log):,} logged decisions are earlier than the customer's first row")


def _frame(decisions: list[LoggedDecision]) -> pd.DataFrame:
    reward = np.array([each.reward for each in decisions], dtype=np.float64)
    log = pd.DataFrame(
        {
            "row_id": [each.row_id for each in decisions],
            "customer_id": [each.customer_id for each in decisions],
            "decided_at": pd.Series([each.decided_at for each in decisions], dtype="datetime64[us, UTC]"),
            "placement": [each.placement for each in decisions],
            "action_id": [each.action_id for each in decisions],
            "probability": pd.array([each.probability for each in decisions], dtype="float64"),
            "candidates": [list(each.candidates or ()) for each in decisions],
            "context": [
                {name: value for name, value in each.context.items() if value is not None} for each in decisions
            ],
            "contacts": [[] for _ in decisions],
            "reward": reward,
            "success": (reward > 0.0).astype(np.int64),
        }
    )
    return log.sort_values(["decided_at", "row_id"], kind="stable", ignore_index=True)[list(LOG_COLUMNS)]
