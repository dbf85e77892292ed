import hashlib
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.bundle import (
    Manifest,
    ModelFeature,
    check_probe,
    encode_column,
    encode_rows,
    encode_value,
    pack,
    unpack,
)
from decisioning.errors import BundleError

AGE = ModelFeature("age", "customer", "number")
CITY = ModelFeature("city", "customer", "category", ("bonn", "ulm"))
SINCE = ModelFeature("since", "customer", "time", base=datetime(2026, 1, 1, tzinfo=UTC))
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
    check_probe(manifest(), np.array([0.250009, 0.5]))
    with pytest.raises(BundleError):
        check_probe(manifest(), np.array(scores))


def test_levels_have_codes_others_share_one_and_missing_is_nan() -> None:
    assert [encode_value(CITY, city) for city in ("bonn", "ulm", "rom")] == [0.0, 1.0, 2.0]
    assert math.isnan(encode_value(CITY, None))


def test_time_is_seconds_since_the_base_without_loss() -> None:
    late = datetime(2026, 11, 21, 18, 0, 1, tzinfo=UTC)
    assert encode_column(SINCE, [late, late.isoformat()]).tolist() == [np.float32(28_058_401)] * 2


@pytest.mark.parametrize(("feature", "value"), [(AGE, "old"), (CITY, 1.5), (SINCE, 3.0)])
def test_a_value_of_another_kind_is_a_type_error(feature: ModelFeature, value: Any) -> None:
    with pytest.raises(TypeError, match=feature.name):
        encode_value(feature, value)


@given(st.lists(st.none() | st.floats(width=32) | st.integers(-1000, 1000) | st.booleans(), min_size=1))
def test_a_column_and_single_values_are_the_same_numbers(values: list[Any]) -> None:
    one_by_one = np.array([encode_value(AGE, value) for value in values], dtype=np.float32)
    np.testing.assert_array_equal(encode_column(AGE, values), one_by_one)


@given(st.lists(st.none() | st.sampled_from(["bonn", "ulm", "rom", ""]), min_size=1))
def test_a_column_of_categories_is_the_same_numbers(values: list[Any]) -> None:
    one_by_one = np.array([encode_value(CITY, value) for value in values], dtype=np.float32)
    np.testing.assert_array_equal(encode_column(CITY, values), one_by_one)


def test_rows_share_what_is_the_customer_s_and_differ_in_what_is_the_action_s() -> None:
    features = (AGE, ModelFeature("margin", "action", "number"), ModelFeature("contacts_7d", "history", "number"))
    rows = encode_rows(features, {"age": 41}, [{"margin": 1.0, "contacts_7d": 2.0}, {"contacts_7d": 3.0}])
    np.testing.assert_array_equal(rows, np.array([[41, 1, 2], [41, np.nan, 3]], dtype=np.float32))
