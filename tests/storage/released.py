"""A released catalogue, as far as whoever follows it looks."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta

import msgspec

from decisioning.content_types import BLUEPRINT
from decisioning.event_content import EventFeature
from storage.blobs import BlobStore
from storage.catalog_files import catalog_pointer
from storage.settings import Settings
from tests.builders import catalog
from tests.storage.kept import NOW


def release(settings: Settings, declared: Sequence[EventFeature], *, at: datetime = NOW - timedelta(days=1)) -> None:
    """Let the settings' domain be served with a catalogue that declares these features over events."""
    content = catalog(domain=settings.domain, event_features=tuple(declared)).content
    with closing(BlobStore(settings)) as blobs:
        sha256 = blobs.put(msgspec.json.encode({BLUEPRINT: content}))
        blobs.point(catalog_pointer(settings.domain), sha256, now=at, reason="test")
