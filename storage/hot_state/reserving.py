"""What reserving means whichever store keeps the contacts: how long claims of ids and reservations last."""

from datetime import datetime, timedelta

# Whoever claimed an id and left no record after this long is taken for dead.
CLAIM_TIME_OUT = timedelta(seconds=5)
# By then the ledger answers for the id.
CLAIM_KEPT = timedelta(days=1)
# A reservation that ran out may still be confirmed by an outcome that comes late.
UNCONFIRMED_KEPT = timedelta(days=7)


def is_abandoned(claimed_at: datetime, *, now: datetime) -> bool:
    """Whether who claimed an id then had time enough to leave a record."""
    return abs(now - claimed_at) >= CLAIM_TIME_OUT
