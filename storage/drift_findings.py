"""What was found last of a domain's drift, where services and the doctor find it."""

from datetime import datetime

import msgspec

from decisioning.drift import DriftSummary
from storage.blobs import BlobStore


def drift_pointer(domain: str) -> str:
    """The pointer to the newest summary."""
    return f"drift/{domain}"


def keep_drift(blobs: BlobStore, domain: str, summary: DriftSummary, *, now: datetime) -> None:
    """Let this be what was found last."""
    blobs.point(drift_pointer(domain), blobs.put(msgspec.json.encode(summary)), now=now, reason="nextmove drift")


def last_drift(blobs: BlobStore, domain: str) -> DriftSummary | None:
    """What was found last; None where nobody looked.

    Raises:
        StoreError: It cannot be read.
    """
    named = blobs.pointer(drift_pointer(domain))
    return None if named is None else msgspec.json.decode(blobs.get(named), type=DriftSummary)
