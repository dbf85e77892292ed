import hashlib
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.bundle import (
    Manifest,
    ModelFeature,
    Scored,
    check_probe,
    pack,
    unmet,
    unpack,
)
from decisioning.errors import BundleError

AGE = ModelFeature("age", "customer", "number")
CITY = ModelFeature("city", "customer", "category", ("bonn", "ulm"))
GRAPH = b"graph"


def manifest(**overrides: Any) -> Manifest:
    defaults: dict[str, Any] = {
        "domain": "shop",
        "name": "shop-propensity",
        "version": "7",
        "run_id": "r",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "features": (AGE, CITY),
        "graph_sha256": hashlib.sha256(GRAPH).hexdigest(),
        "probe": np.array([[1, 0], [2, 1]], dtype="<f4").tobytes(),
        "probe_scores": np.array([0.25, 0.5], dtype="<f8").tobytes(),
        "data_sha256": "0" * 64,
        "trained_until": datetime(2026, 1, 1, tzinfo=UTC),
        "git_commit": "none",
    }
    return Manifest(**(defaults | overrides))


def test_a_bundle_survives_its_way_through_bytes() -> None:
    encoded, bundle = pack(manifest(), GRAPH)
    assert unpack(encoded, GRAPH, sha256=bundle.sha256) == bundle
    assert bundle.manifest.probe_rows.tolist() == [[1.0, 0.0], [2.0, 1.0]]


def test_one_changed_byte_anywhere_is_noticed() -> None:
    encoded, bundle = pack(manifest(), GRAPH)
    with pytest.raises(BundleError, match="manifest's SHA-256"):
        unpack(encoded.replace(b'"7"', b'"8"'), GRAPH, sha256=bundle.sha256)
    with pytest.raises(BundleError, match="graph's SHA-256"):
        unpack(encoded, b"another", sha256=bundle.sha256)


@pytest.mark.parametrize("content", [b"{}", b"not json", msgspec.json.encode(manifest(format=99))])
def test_a_manifest_that_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        unpack(content, GRAPH, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("scores", [[0.25, 0.50002], [0.25, math.nan], [0.25], [math.inf, 0.5]])
def test_a_probe_that_scores_differently_is_refused(scores: list[float]) -> None:
    check_probe(manifest(), Scored(np.array([0.250009, 0.5])))
    with pytest.raises(BundleError):
        check_probe(manifest(), Scored(np.array(scores)))


def test_a_manifest_from_before_ensembles_can_be_read() -> None:
    known = msgspec.json.decode(msgspec.json.encode(manifest()))
    del known["n_members"]
    encoded = msgspec.json.encode(known)
    assert unpack(encoded, GRAPH, sha256=hashlib.sha256(encoded).hexdigest()).manifest == manifest()


def test_every_member_is_held_to_its_probe() -> None:
    scores = np.array([[0.25, 0.5], [0.2, 0.4], [0.3, 0.6]], dtype="<f8")
    two = manifest(n_members=2, probe_scores=scores.tobytes())
    check_probe(two, Scored(scores[0], members=scores[1:].T))
    with pytest.raises(BundleError, match="differs"):
        check_probe(two, Scored(scores[0], members=scores[1:].T + 0.001))
    with pytest.raises(BundleError, match="gave"):
        check_probe(two, Scored(scores[0]))


def test_who_explores_by_members_misses_them_in_a_model_without() -> None:
    said = unmet(manifest(), ["newsletter"])
    assert said is not None
    assert said.startswith("newsletter: bootstrap_thompson explores by an ensemble, and model 7 has none")
    assert unmet(manifest(), []) is None
    assert unmet(manifest(n_members=10), ["newsletter"]) is None


def test_every_output_of_a_graph_is_held_to_its_probe() -> None:
    two = manifest(outputs=("propensity", "sd"), probe_scores=np.array([0.25, 0.5, 1.5, 2.0], dtype="<f8").tobytes())
    check_probe(two, Scored(np.array([0.25, 0.5]), sd=np.array([1.5, 2.0])))
    with pytest.raises(BundleError, match="differs"):
        check_probe(two, Scored(np.array([0.25, 0.5]), sd=np.array([1.5, 2.1])))
