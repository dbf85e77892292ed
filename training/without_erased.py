"""A data domain without whoever was erased: its files may still have them, and nothing of them may come back."""

from collections.abc import Iterable
from contextlib import closing

import pandas as pd

from decisioning.profile import ConsentChange
from storage.privacy.tombstones import Tombstones
from storage.settings import Settings

KEY = "customer_id"


def erased_in(settings: Settings, names: Iterable[str]) -> set[str]:
    """Which of these customers are erased.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with closing(Tombstones(settings)) as tombstones:
        return tombstones.erased(names)


def tables_of_others(
    settings: Settings, tables: dict[str, pd.DataFrame], *, naming: Iterable[str]
) -> dict[str, pd.DataFrame]:
    """The tables without the rows of erased customers, and without what names them in the columns `naming`."""
    erased = erased_in(settings, {str(one) for table in tables.values() if KEY in table for one in table[KEY].unique()})
    if not erased:
        return tables
    return {name: _of_others(table, erased, set(naming)) for name, table in tables.items()}


def rows_of_others(settings: Settings, table: pd.DataFrame) -> pd.DataFrame:
    """A table without the rows of erased customers."""
    if KEY not in table:
        return table
    erased = erased_in(settings, {str(one) for one in table[KEY].unique()})
    return table[~table[KEY].isin(erased)] if erased else table


def consents_of_others(settings: Settings, changes: list[ConsentChange]) -> list[ConsentChange]:
    """Consents without those of erased customers."""
    erased = erased_in(settings, {change.customer_id for change in changes})
    return [change for change in changes if change.customer_id not in erased] if erased else changes


def _of_others(table: pd.DataFrame, erased: set[str], naming: set[str]) -> pd.DataFrame:
    others = table[~table[KEY].isin(erased)] if KEY in table else table
    clear = {name: others[name].where(~others[name].isin(erased), None) for name in naming & set(others.columns)}
    return others.assign(**clear)
