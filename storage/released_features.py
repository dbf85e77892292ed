"""The features over events that the released catalogue declares, without compiling the catalogue."""

from contextlib import closing
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from decisioning.content_types import BLUEPRINT
from decisioning.errors import StoreError
from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from storage.blobs import BlobStore
from storage.catalog_files import catalog_pointer
from storage.settings import Settings

FOLLOWED_AFTER = timedelta(seconds=10)


class _Declaring(msgspec.Struct):
    """What of a catalogue says it."""

    event_features: tuple[EventFeature, ...] = ()


class ReleasedFeatures(NamedTuple):
    """What is declared, and from when on every service follows it."""

    features: EventFeatures
    followed_at: datetime


def released_features(settings: Settings) -> ReleasedFeatures | None:
    """What the domain's released catalogue declares; None where there is none, or it declares nothing.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with closing(BlobStore(settings)) as blobs:
        released = blobs.history(catalog_pointer(settings.domain))
        if not released:
            return None
        try:
            blob = blobs.get(released[-1].sha256)
            declared = msgspec.json.decode(blob, type=dict[str, _Declaring])[BLUEPRINT].event_features
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
            return None  # broken, or of an older version: services go on with the one before, and say so
    if not declared:
        return None
    patience = max(FOLLOWED_AFTER, 3 * timedelta(seconds=settings.pointer_poll_seconds))
    return ReleasedFeatures(EventFeatures(declared), released[-1].at + patience)
