"""Changes of consent are kept for good: what was granted, withdrawn, when, and where it was said."""

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.dialects import sqlite

from decisioning.profile import ConsentChange
from storage.ledger.database import open_ledger, writing
from storage.ledger.rows import consent_row
from storage.ledger.tables import consents
from storage.settings import Settings


def append_consents(settings: Settings, changes: Iterable[ConsentChange]) -> int:
    """Keep these changes as the domain's, all or none, and return how many were new: the same word twice is one word.

    Raises:
        StoreError: They could not be kept.
    """
    names = [column.name for column in consents.columns if column.name != "seq"]
    rows = [dict(zip(names, consent_row(change, settings.domain), strict=True)) for change in changes]
    if not rows:
        return 0
    engine = open_ledger(settings)
    count = select(func.count()).select_from(consents)
    try:
        with writing(engine) as connection:
            before = connection.execute(count).scalar_one()
            connection.execute(sqlite.insert(consents).on_conflict_do_nothing(), rows)
            return connection.execute(count).scalar_one() - before
    finally:
        engine.dispose()
