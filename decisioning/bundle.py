"""The contract between training and serving: a manifest, and how values become model input.

A bundle is one ONNX graph (calibration inside) and this manifest. Training writes it, the service
verifies it. Both turn values into float32 columns with the functions here, so that what was learnt
from and what is scored are the same numbers in the same order.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Scalar
from decisioning.errors import BundleError

FORMAT = 1
PROBE_TOLERANCE = 1e-5
INPUT_NAME, OUTPUT_NAME = "features", "propensity"  # graph: float32 (n, n_features) -> float32 (n,)


class ModelFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the model's input.

    Attributes:
        name: Unique over all sources; a caller may supply a customer or context feature by it.
        source: Where the value comes from: the feature store (which the request's context may
            override), the request's context, the action's catalogue entry, or contact history.
        kind: `number`, `category` (coded by place in `categories`), or `time` (seconds since
            `base`: epoch seconds lose minutes in float32).
        categories: Known levels. Any other level, met in training or not, is coded
            `len(categories)`; a missing value is NaN.
        base: For `time`, the instant that counts as 0.
    """

    name: str
    source: Literal["customer", "context", "action", "history"]
    kind: Literal["number", "category", "time"]
    categories: tuple[str, ...] = ()
    base: datetime | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that the service needs to know about a graph before it may score with it.

    Attributes:
        graph_sha256: Hash of the ONNX bytes.
        probe: Synthetic rows (float32, C order, `(n, n_features)`): missing, unseen, infinite,
            on-threshold. Never a real customer's.
        probe_scores: What the graph gave for them when it was built (float64 bytes, `(n,)`).
        data_sha256: Hash of the training rows.
        trained_until: No row that any slice used, calibration included, is later.
    """

    format: int = FORMAT
    domain: str
    name: str
    version: str
    run_id: str
    created_at: datetime
    features: tuple[ModelFeature, ...]
    graph_sha256: str
    probe: bytes
    probe_scores: bytes
    data_sha256: str
    trained_until: datetime
    git_commit: str

    @property
    def probe_rows(self) -> NDArray[np.float32]:
        """The probe as `(n, n_features)`."""
        return np.frombuffer(self.probe, dtype="<f4").reshape(-1, len(self.features))

    @property
    def expected_scores(self) -> NDArray[np.float64]:
        """The scores that the probe must give, `(n,)`."""
        return np.frombuffer(self.probe_scores, dtype="<f8")


class Bundle(msgspec.Struct, frozen=True):
    """A manifest, its graph, and the hash that names them: that of the manifest's bytes."""

    manifest: Manifest
    graph: bytes
    sha256: str


def pack(manifest: Manifest, graph: bytes) -> tuple[bytes, Bundle]:
    """The manifest's canonical bytes, and the bundle they name."""
    encoded = msgspec.json.encode(manifest, order="deterministic")
    return encoded, Bundle(manifest=manifest, graph=graph, sha256=hashlib.sha256(encoded).hexdigest())


def unpack(encoded: bytes, graph: bytes, *, sha256: str) -> Bundle:
    """The bundle in these bytes, its hashes verified.

    Raises:
        BundleError: A hash differs, the format is another one, or the manifest cannot be read.
    """
    actual = hashlib.sha256(encoded).hexdigest()
    if actual != sha256:
        raise BundleError(f"the manifest's SHA-256 is {actual}, must be {sha256}; restore or promote it again")
    try:
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleError(f"the manifest of bundle {sha256[:12]} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BundleError(f"bundle {sha256[:12]} has format {manifest.format}, this service reads {FORMAT}")
    actual = hashlib.sha256(graph).hexdigest()
    if actual != manifest.graph_sha256:
        raise BundleError(
            f"the graph's SHA-256 is {actual}, must be {manifest.graph_sha256}; restore or promote it again"
        )
    return Bundle(manifest=manifest, graph=graph, sha256=sha256)


def check_probe(manifest: Manifest, scores: NDArray[np.floating]) -> None:
    """Hold the scores of the probe, `(n,)`, against those of the day the bundle was built.

    Raises:
        BundleError: They differ by more than `PROBE_TOLERANCE`, or are not all numbers in [0, 1].
    """
    expected = manifest.expected_scores
    if scores.shape != expected.shape or not np.isfinite(scores).all():
        raise BundleError(f"the probe of model {manifest.version} gave {scores.shape} scores, not all of them numbers")
    error = float(np.abs(scores - expected).max())
    if error > PROBE_TOLERANCE or scores.min() < 0 or scores.max() > 1:
        raise BundleError(
            f"the probe of model {manifest.version} differs by {error:.2g}, at most {PROBE_TOLERANCE:g} is allowed;"
            " the graph does not score here as it did where it was built"
        )


def encode_value(feature: ModelFeature, value: Scalar | datetime) -> float:
    """One value as the model sees it; NaN when it is missing.

    >>> colour = ModelFeature("colour", "customer", "category", ("blue", "red"))
    >>> [encode_value(colour, value) for value in ("red", "green", None)]
    [1.0, 2.0, nan]

    Raises:
        TypeError: The value is not of the feature's kind.
    """
    if value is None:
        return math.nan
    if feature.kind == "category":
        if not isinstance(value, str | bool | int):
            raise TypeError(f"'{feature.name}' is {value!r}, must be a text")
        return _category_codes(feature).get(str(value), float(len(feature.categories)))
    if feature.kind == "time":
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if not isinstance(value, datetime) or feature.base is None:
            raise TypeError(f"'{feature.name}' is {value!r}, must be a time")
        return (value - feature.base).total_seconds()
    if not isinstance(value, bool | int | float):
        raise TypeError(f"'{feature.name}' is {value!r}, must be a number")
    return float(value)


def encode_column(feature: ModelFeature, values: Iterable[Scalar | datetime]) -> NDArray[np.float32]:
    """Many values of one feature, `(n,)`; the same numbers as `encode_value`, one by one."""
    if feature.kind == "category":
        codes, other = _category_codes(feature), float(len(feature.categories))
        return np.array(
            [math.nan if value is None or value != value else codes.get(str(value), other) for value in values],
            dtype=np.float32,
        )
    if feature.kind == "number" and isinstance(values, np.ndarray) and values.dtype.kind in "bfiu":
        return values.astype(np.float32)
    return np.array([encode_value(feature, value) for value in values], dtype=np.float32)


def encode_rows(
    features: Sequence[ModelFeature],
    shared: Mapping[str, Scalar],
    per_candidate: Sequence[Mapping[str, Scalar]],
) -> NDArray[np.float32]:
    """Model input for the candidates of one decision, `(n_candidates, n_features)`.

    `shared` holds the customer's and the request's values, `per_candidate` the action's and the
    contact history's. A feature that is in neither is missing.

    Raises:
        TypeError: A value is not of its feature's kind.
    """
    rows = np.empty((len(per_candidate), len(features)), dtype=np.float32)
    for column, feature in enumerate(features):
        if feature.source in ("action", "history"):
            rows[:, column] = [encode_value(feature, candidate.get(feature.name)) for candidate in per_candidate]
        else:
            rows[:, column] = encode_value(feature, shared.get(feature.name))
    return rows


@lru_cache(maxsize=4096)
def _category_codes(feature: ModelFeature) -> dict[str, float]:
    return {level: float(code) for code, level in enumerate(feature.categories)}
