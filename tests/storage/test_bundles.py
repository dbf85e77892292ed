"""A bundle comes back whole or not at all."""

import hashlib
from typing import Any

import numpy as np
import pytest

from decisioning.bundle import FORMAT, Manifest, ModelFeature
from decisioning.errors import BundleError, StoreError
from storage.blobs import BlobStore
from storage.bundles import load_bundle, publish_bundle
from storage.settings import Settings
from tests.storage.kept import NOW

GRAPH = b"an ONNX graph"


def manifest(**overrides: Any) -> Manifest:
    defaults: dict[str, Any] = {
        "domain": "shop",
        "name": "propensity",
        "version": "1",
        "run_id": "r",
        "created_at": NOW,
        "features": (ModelFeature("age", "customer", "number"),),
        "graph_sha256": hashlib.sha256(GRAPH).hexdigest(),
        "probe": np.array([[1.0], [np.nan]], dtype="<f4").tobytes(),
        "probe_scores": np.array([0.1, 0.2]).tobytes(),
        "data_sha256": "d",
        "trained_until": NOW,
        "git_commit": "c",
    }
    return Manifest(**{**defaults, **overrides})


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings)


def test_a_published_bundle_is_loaded_by_its_hash(blobs: BlobStore, settings: Settings) -> None:
    published = publish_bundle(blobs, manifest(), GRAPH)

    assert load_bundle(BlobStore(settings), published.sha256) == published


def test_a_manifest_of_another_graph_is_not_published(blobs: BlobStore) -> None:
    with pytest.raises(BundleError, match="the graph's SHA-256"):
        publish_bundle(blobs, manifest(), b"another graph")


def test_a_bundle_of_another_format_says_so(blobs: BlobStore) -> None:
    with pytest.raises(BundleError, match=f"has format {FORMAT + 1}, this service reads {FORMAT}"):
        publish_bundle(blobs, manifest(format=FORMAT + 1), GRAPH)


@pytest.mark.parametrize("content", [b"GIF89a", b"{}", b"[]"])
def test_bytes_that_are_no_manifest_are_no_bundle(content: bytes, blobs: BlobStore) -> None:
    sha256 = blobs.put(content)

    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(blobs, sha256)


def test_a_bundle_whose_graph_is_missing_names_it(blobs: BlobStore) -> None:
    sha256 = blobs.put(b'{"graph_sha256": "abc"}')

    with pytest.raises(StoreError, match="abc"):
        load_bundle(blobs, sha256)
