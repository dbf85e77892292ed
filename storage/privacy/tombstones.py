"""Which ids are erased, by the ledger: for work in bulk, which must not bring them back."""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import sqlite

from storage.id_digests import id_digests
from storage.instants import to_microseconds
from storage.ledger.database import open_ledger, reading
from storage.ledger.tables import erased
from storage.settings import Settings

AT_ONCE = 500


class Tombstones:
    """Looks ids up among the erased ones of a domain; where there are none, it costs nothing."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger.

        Raises:
            SetupError: The state directory or the file cannot be used.
        """
        self._engine = open_ledger(settings)
        self._domain = settings.domain
        self._digests = id_digests(settings)

    def erased(self, names: Iterable[str]) -> set[str]:
        """Which of these ids are erased now; a visitor's is `anonymous:` and the visitor's id.

        Raises:
            StoreError: The ledger cannot be read.
        """
        with reading(self._engine) as connection:
            if (
                connection.execute(select(erased.c.digest).where(erased.c.domain == self._domain).limit(1)).first()
                is None
            ):
                return set()
            wanted = list(self._digests.by_digest(names).items())
            found: set[str] = set()
            for start in range(0, len(wanted), AT_ONCE):
                chunk = dict(wanted[start : start + AT_ONCE])
                query = select(erased.c.digest).where(erased.c.domain == self._domain, erased.c.digest.in_(list(chunk)))
                found |= {chunk[digest] for digest in connection.execute(query).scalars()}
            return found

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def bury(connection: Connection, domain: str, digests: Collection[str], *, now: datetime) -> None:
    """Keep that the ids of these hashes are erased, in a transaction of the caller's; again changes nothing."""
    rows = [{"domain": domain, "digest": digest, "at": to_microseconds(now)} for digest in digests]
    if rows:
        connection.execute(sqlite.insert(erased).on_conflict_do_nothing(), rows)


def dig_up(connection: Connection, domain: str, digest: str) -> bool:
    """Let an id be one like others again; whether it was erased."""
    these = erased.c.domain == domain, erased.c.digest == digest
    return connection.execute(delete(erased).where(*these)).rowcount > 0
