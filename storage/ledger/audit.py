"""Entries of the audit, one at a time; not for the event loop."""

from decisioning.record import AuditRecord
from storage.ledger.database import open_ledger, writing
from storage.ledger.rows import audit_row
from storage.ledger.tables import audit
from storage.settings import Settings


def keep_audit(settings: Settings, entry: AuditRecord) -> None:
    """Return once the entry is durable; told twice, it is kept twice.

    Raises:
        StoreError: It could not be kept.
    """
    engine = open_ledger(settings)
    names = [column.name for column in audit.columns if column.name != "seq"]
    try:
        with writing(engine) as connection:
            connection.execute(audit.insert().values(dict(zip(names, audit_row(entry), strict=True))))
    finally:
        engine.dispose()
