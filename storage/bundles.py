"""Model bundles in the blob store: two blobs each, named by the manifest's hash."""

import hashlib
from datetime import datetime

import msgspec

from decisioning.bundle import Bundle, Manifest, pack, unpack
from decisioning.errors import BundleError
from storage.blobs import BlobStore

NOTHING = hashlib.sha256(b"").hexdigest()  # a pointer cannot be taken away, only moved


class _Reference(msgspec.Struct):
    """What a manifest of any format says about its graph."""

    graph_sha256: str


def bundle_pointer(domain: str) -> str:
    """The pointer to the bundle that a domain is served with."""
    return f"bundle/{domain}"


def stages_pointer(domain: str) -> str:
    """The pointer to the bundle that foretells a domain's journey stages."""
    return f"stages/{domain}"


def shadow_pointer(domain: str) -> str:
    """The pointer to the challenger that scores beside it; to nothing (no bytes) where none does any more."""
    return f"shadow/{domain}"


def shadow_bundle(blobs: BlobStore, domain: str) -> str | None:
    """The hash of the challenger in the shadow; None without one. Who is served casts none: a promotion ends it."""
    named = blobs.pointer(shadow_pointer(domain))
    return None if named in (None, NOTHING, blobs.pointer(bundle_pointer(domain))) else named


def end_shadow(blobs: BlobStore, domain: str, *, now: datetime, reason: str) -> None:
    """Let no challenger score beside what is served; nothing where none does."""
    if blobs.pointer(shadow_pointer(domain)) not in (None, NOTHING):
        blobs.point(shadow_pointer(domain), blobs.put(b""), now=now, reason=reason)


def publish_bundle(blobs: BlobStore, manifest: Manifest, graph: bytes) -> Bundle:
    """Keep manifest and graph; nothing points to them yet.

    Raises:
        BundleError: The manifest is not of this graph.
        StoreError: They could not be kept.
    """
    encoded, bundle = pack(manifest, graph)
    unpack(encoded, graph, sha256=bundle.sha256)
    blobs.put(graph)
    blobs.put(encoded)
    return bundle


def load_bundle(blobs: BlobStore, sha256: str) -> Bundle:
    """The bundle with this hash, both parts verified.

    Raises:
        BundleError: It cannot be served.
        StoreError: A part is not in the store, or the store cannot be read.
    """
    encoded = blobs.get(sha256)
    try:
        graph_sha256 = msgspec.json.decode(encoded, type=_Reference).graph_sha256
    except msgspec.MsgspecError as error:
        raise BundleError(f"the manifest of bundle {sha256[:12]} cannot be read: {error}") from error
    return unpack(encoded, blobs.get(graph_sha256), sha256=sha256)
