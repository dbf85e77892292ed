"""Sizes of audiences over time: numbers alone, of nobody in particular."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.dialects import sqlite

from decisioning.running_dry import PAST, Size
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import audience_sizes
from storage.settings import Settings

_COLUMNS = [audience_sizes.c[name] for name in Size._fields]


def keep_sizes(settings: Settings, sizes: Iterable[Size]) -> None:
    """Keep the domain's sizes, all or none; of the same instant again changes nothing.

    Raises:
        StoreError: They could not be kept.
    """
    rows = [{"domain": settings.domain, **size._asdict(), "at": to_microseconds(size.at)} for size in sizes]
    if not rows:
        return
    engine = open_ledger(settings)
    try:
        with writing(engine) as connection:
            connection.execute(sqlite.insert(audience_sizes).on_conflict_do_nothing(), rows)
    finally:
        engine.dispose()


def kept_sizes(settings: Settings, *, since: datetime, market: str | None = None) -> list[Size]:
    """The domain's sizes from then on, of one market or of all, oldest first.

    Raises:
        StoreError: The ledger cannot be read.
    """
    query = select(*_COLUMNS).where(
        audience_sizes.c.domain == settings.domain, audience_sizes.c.at >= to_microseconds(since)
    )
    if market is not None:
        query = query.where(audience_sizes.c.market == market)
    return _read(settings, query.order_by(audience_sizes.c.at, *_COLUMNS[:3]))


def last_sizes(settings: Settings) -> list[Size]:
    """The newest sizes of each of the domain's markets; of one that nobody counts any more, none.

    Raises:
        StoreError: The ledger cannot be read.
    """
    its = audience_sizes.c.domain == settings.domain
    newest = select(func.max(audience_sizes.c.at)).where(its).scalar_subquery()
    recent = its & (audience_sizes.c.at > newest - PAST // timedelta(microseconds=1))
    of_markets = select(audience_sizes.c.market, func.max(audience_sizes.c.at)).where(recent)
    its_last = tuple_(audience_sizes.c.market, audience_sizes.c.at).in_(of_markets.group_by(audience_sizes.c.market))
    return _read(settings, select(*_COLUMNS).where(recent, its_last))


def _read(settings: Settings, query: Select[Any]) -> list[Size]:
    engine = open_ledger(settings)
    try:
        with reading(engine) as connection:
            return [Size(*row)._replace(at=from_microseconds(row.at)) for row in connection.execute(query)]
    finally:
        engine.dispose()
