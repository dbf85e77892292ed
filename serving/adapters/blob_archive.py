"""Catalogues that were ever released, out of the blob store."""

from functools import lru_cache

from decisioning.catalog import Release
from storage.blobs import BlobStore
from storage.catalog_files import decode_release

KEPT = 4  # releases that stay compiled; a replay of many decisions asks for few


class BlobArchive:
    """Releases by version; a version is the hash of its content."""

    def __init__(self, blobs: BlobStore) -> None:
        self._decoded = lru_cache(maxsize=KEPT)(lambda sha256: decode_release(blobs.get(sha256)))

    def release(self, version: str) -> Release:
        """See `ports.Archive`."""
        return self._decoded(version.removeprefix("sha256:"))
