"""How much each source told, by hour. Counts are added to, by any number of processes at once."""

from collections.abc import Collection, Iterable
from contextlib import closing
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import sqlite

from decisioning.content import Content
from decisioning.feeds import HISTORY, OUTCOME, FeedCount, Untold, untold
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import feed_counts
from storage.settings import Settings

_INSERT = sqlite.insert(feed_counts)
_ADD = _INSERT.on_conflict_do_update(
    index_elements=list(feed_counts.primary_key.columns),
    set_={
        "count": feed_counts.c.count + _INSERT.excluded.count,
        "last_at": func.max(feed_counts.c.last_at, _INSERT.excluded.last_at),
    },
)


class FeedCounts:
    """The domain's counts; not for the event loop."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)
        self._domain = settings.domain

    def add(self, counts: Iterable[FeedCount]) -> None:
        """Add to what is there, all or none.

        Raises:
            StoreError: It cannot be written; nothing was.
        """
        rows = [
            {
                "domain": self._domain,
                "source": each.source,
                "hour": to_microseconds(each.hour),
                "name": each.name,
                "what": each.what,
                "count": each.count,
                "last_at": to_microseconds(each.last_at),
            }
            for each in counts
        ]
        if rows:
            with writing(self._engine) as connection:
                connection.execute(_ADD, rows)

    def read(self, *, since: datetime, what: Collection[str] | None = None, begins: str = "") -> list[FeedCount]:
        """Counts of the hours from `since` on: of these kinds or of all, of names that begin so.

        Raises:
            StoreError: The ledger cannot be read.
        """
        c = feed_counts.c
        query = select(c.source, c.name, c.hour, c.what, c.count, c.last_at).where(
            c.domain == self._domain, c.hour >= to_microseconds(since), c.name.startswith(begins, autoescape=True)
        )
        if what is not None:
            query = query.where(c.what.in_(what))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(c.hour, c.source, c.name, c.what)).all()
        return [
            FeedCount(source, name, from_microseconds(hour), kind, count, from_microseconds(last_at))
            for source, name, hour, kind, count, last_at in rows
        ]

    def last_heard(self, *, since: datetime) -> dict[str, datetime]:
        """When each source was heard of last, in the hours from `since` on.

        Raises:
            StoreError: The ledger cannot be read.
        """
        c = feed_counts.c
        query = select(c.source, func.max(c.last_at)).where(
            c.domain == self._domain, c.hour >= to_microseconds(since), c.what == "received"
        )
        with reading(self._engine) as connection:
            return {source: from_microseconds(at) for source, at in connection.execute(query.group_by(c.source))}

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def read_untold(settings: Settings, content: Content, *, since: datetime, now: datetime) -> Untold:
    """Which outcomes were not told from `since` on, by what the domain's sources told; see `feeds.untold`.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with closing(FeedCounts(settings)) as counts:
        occurred = counts.read(since=since - HISTORY, what=("occurred",), begins=OUTCOME)
    return untold(occurred, content.sources, now=now, time_zone=content.time_zone)
