"""The contract between training and serving: a graph, and a manifest that says what it needs.

A bundle is one ONNX graph (calibration inside) and this manifest. Training writes it, the service
verifies it before it serves it. `encoding` turns values into the graph's input.
"""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.delays import DelayDistribution
from decisioning.errors import BundleError
from decisioning.reference import Reference

FORMAT = 1
PROBE_TOLERANCE = 1e-5
# A graph maps `features`, float32 (n, n_features), to `propensity`, float32 (n,), and to what else its manifest
# says that it gives, float32 (n,) each. If it has an ensemble, it also maps them to `members`, float32
# (n, n_members), once `with_members`, a bool that is false by default, is true: ONNX Runtime computes all of a
# graph, whichever outputs are asked for, and an ensemble costs so many times what the rest does.
Output = Literal["propensity", "sd", "uplift"]
INPUT_NAME = "features"
OUTPUT_NAME: Output = "propensity"
MEMBERS_NAME, WITH_MEMBERS = "members", "with_members"


class Scored(NamedTuple):
    """What a graph gives for rows of input, `(n,)` each.

    Attributes:
        propensity: Calibrated.
        sd: How far its log-odds may be off: the posterior's standard deviation, of models that have one.
        uplift: By how much showing the action changes the propensity, of models that learnt that.
        members: The propensity as each model of an ensemble says it, `(n, n_members)`; of models that have one,
            where it was asked for.
    """

    propensity: NDArray[np.floating]
    sd: NDArray[np.floating] | None = None
    uplift: NDArray[np.floating] | None = None
    members: NDArray[np.floating] | None = None

    def table(self, outputs: Sequence[Output]) -> NDArray[np.float64]:
        """These outputs, then each member if there are any: `(n_outputs + n_members, n)`."""
        each = [getattr(self, output) for output in outputs]
        return np.array([*each, *(() if self.members is None else self.members.T)], dtype=np.float64)


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
        probe_scores: What the graph gave for them when it was built (float64 bytes, `Scored.table`).
        data_sha256: Hash of the training rows.
        trained_until: No row that any slice used, calibration included, is later.
        outputs: What the graph gives, `propensity` first; the others as in `Scored`.
        n_members: How many models its ensemble has; 0 without one.
        learner: What learnt it: `lightgbm`, `linear`, or `imported` for a graph that was made elsewhere.
        action_sd: By action, how far the log-odds of its propensity may be off as a whole, for having been
            met so often: the online posterior begins there. `new_action_sd` is that of any other action.
        reference: What its live data are compared with; None where nobody said.
        delays: By placement, how long after a contact successes arrive; the default for any other.
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
    outputs: tuple[Output, ...] = (OUTPUT_NAME,)
    n_members: int = 0
    learner: str = "lightgbm"
    action_sd: dict[str, float] = {}
    new_action_sd: float = 1.0
    reference: Reference | None = None
    delays: dict[str, DelayDistribution] = {}

    @property
    def probe_rows(self) -> NDArray[np.float32]:
        """The probe as `(n, n_features)`."""
        return np.frombuffer(self.probe, dtype="<f4").reshape(-1, len(self.features))

    @property
    def expected_scores(self) -> NDArray[np.float64]:
        """The scores that the probe must give, as in `Scored.table`."""
        return np.frombuffer(self.probe_scores, dtype="<f8").reshape(len(self.outputs) + self.n_members, -1)


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


def unmet(manifest: Manifest, by_members: Collection[str]) -> str | None:
    """What placements that explore by an ensemble's members miss in this model, in words; None: nothing."""
    if manifest.n_members or not by_members:
        return None
    return (
        f"{', '.join(by_members)}: bootstrap_thompson explores by an ensemble, and model {manifest.version} has none,"
        " so what is best by it is always chosen"
    )


def check_probe(manifest: Manifest, scored: Scored) -> None:
    """Hold the scores of the probe, members among them, against those of the day the bundle was built.

    Raises:
        BundleError: They differ by more than `PROBE_TOLERANCE`, are not all numbers, or a propensity is not in [0, 1].
    """
    expected = manifest.expected_scores
    scores = scored.table(manifest.outputs)
    if scores.shape != expected.shape or not np.isfinite(scores).all():
        raise BundleError(f"the probe of model {manifest.version} gave {scores.shape} scores, not all of them numbers")
    error = float(np.abs(scores - expected).max())
    if error > PROBE_TOLERANCE or scores[0].min() < 0 or scores[0].max() > 1:
        raise BundleError(
            f"the probe of model {manifest.version} differs by {error:.2g}, at most {PROBE_TOLERANCE:g} is allowed;"
            " the graph does not score here as it did where it was built"
        )
