"""Model bundles in the blob store: two blobs each, named by the manifest's hash."""

import msgspec

from decisioning.bundle import Bundle, Manifest, pack, unpack
from decisioning.errors import BundleError
from storage.blobs import BlobStore


class _Reference(msgspec.Struct):
    """What a manifest of any format says about its graph."""

    graph_sha256: str


def bundle_pointer(domain: str) -> str:
    """The pointer to the bundle that a domain is served with."""
    return f"bundle/{domain}"


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
