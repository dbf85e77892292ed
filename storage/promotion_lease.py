"""The right to say which bundle a domain is served with."""

from contextlib import AbstractContextManager

from storage.leases import Lease, held
from storage.settings import Settings


def moving_pointer(settings: Settings, domain: str) -> AbstractContextManager[Lease]:
    """One promotion or rollback of a domain at a time, on whichever machine.

    Raises:
        SetupError: Another one is running.
        StoreError: The ledger cannot be written.
    """
    return held(settings, f"promotion/{domain}", what="promotion or rollback")
