"""One ONNX graph from trees and calibration; and the check that any graph scores as its model does."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import lightgbm as lgb
import numpy as np
import onnxmltools
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType
from scipy.special import logit

from decisioning.bundle import INPUT_NAME, OUTPUT_NAME, PROBE_TOLERANCE, Manifest, ModelFeature, Output, Scored
from decisioning.errors import BundleError
from training.calibration import FLOOR
from training.graph_scorer import GraphScorer
from training.probe import PROBE_ROWS, synthetic_rows, thresholds
from training.propensity import PropensityModel
from training.time_split import TimeSplit
from training.uplift import UpliftModel

OPSET, IR_VERSION = 15, 8
_CONVERTER_OPSET = {"": OPSET, "ai.onnx.ml": 1}


def export_graph(model: PropensityModel, uplift: UpliftModel | None = None) -> bytes:
    """The ONNX graph: the trees' margin, clip, slope and intercept, sigmoid; beside it, uplift's trees.

    The margin is the logit itself, since one taken back from a chance in float32 is less exact. And it is
    counted from where the calibrated one is 0: a steep slope would else leave little of float32's digits
    between two large numbers.

    Input `features`, float32 `(n, n_features)`; outputs `propensity` and, with its model, `uplift`, float32
    `(n,)` each. Both models take the same input.
    """
    n_features = len(model.features)
    trees = _trees(model.booster, n_features, "TreeEnsembleClassifier")
    trees.output[:] = ["label", "margins"]
    next(attribute for attribute in trees.attribute if attribute.name == "post_transform").s = b"NONE"
    slope, intercept = model.calibration.slope, model.calibration.intercept
    furthest = float(logit(1.0 - FLOOR))
    zero = float(np.clip(-intercept / slope, -furthest, furthest)) if slope > 0.0 else 0.0
    _shift(trees, -zero)
    constants = {
        "second": np.array([1], dtype=np.int64),
        "lowest": np.array(-furthest - zero, dtype=np.float32),
        "highest": np.array(furthest - zero, dtype=np.float32),
        "slope": np.array(slope, dtype=np.float32),
        "intercept": np.array(intercept + slope * zero, dtype=np.float32),
        "flat": np.array([-1], dtype=np.int64),
    }
    nodes = [
        trees,
        helper.make_node("Gather", ["margins", "second"], ["margin"], axis=1),
        helper.make_node("Clip", ["margin", "lowest", "highest"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "intercept"], ["calibrated"]),
        helper.make_node("Sigmoid", ["calibrated"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], [OUTPUT_NAME]),
    ]
    outputs: list[Output] = [OUTPUT_NAME]
    if uplift is not None:
        outputs.append("uplift")
        effects = _trees(uplift.booster, n_features, "TreeEnsembleRegressor")
        effects.output[:] = ["effects"]
        nodes += [effects, helper.make_node("Reshape", ["effects", "flat"], ["uplift"])]
    graph = helper.make_graph(
        nodes,
        "propensity",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _CONVERTER_OPSET.items()]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="nextmove"
    ).SerializeToString()


def _trees(booster: lgb.Booster, n_features: int, kind: str) -> NodeProto:
    """The booster as one node."""
    converted: ModelProto = onnxmltools.convert_lightgbm(
        booster,
        initial_types=[(INPUT_NAME, FloatTensorType([None, n_features]))],
        zipmap=False,
        target_opset=OPSET,
    )
    return next(node for node in converted.graph.node if node.op_type == kind)


def _shift(trees: NodeProto, by: float) -> None:
    """Add to every margin, in the leaves of the first tree."""
    attributes = {attribute.name: attribute for attribute in trees.attribute}
    weights, trees_of = attributes["class_weights"].floats, attributes["class_treeids"].ints
    weights[:] = [weight + by * (tree == 0) for weight, tree in zip(weights, trees_of, strict=True)]


class Exported(Protocol):
    """A fitted model, as far as its graph is held against it."""

    @property
    def features(self) -> tuple[ModelFeature, ...]:
        """Columns of its input."""
        ...

    @property
    def split(self) -> TimeSplit:
        """What it was fitted on."""
        ...

    @property
    def learner(self) -> str:
        """See `Manifest.learner`."""
        ...

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What its graph gives."""
        ...

    @property
    def edges(self) -> list[NDArray[np.float32]]:
        """Where its scores jump or bend, by feature."""
        ...

    def scored(self, rows: NDArray[np.float32]) -> Scored:
        """The same as its graph, in float64."""
        ...


@dataclass(frozen=True, slots=True)
class WithUplift:
    """A propensity model and a model of uplift over the same input, in one graph."""

    model: PropensityModel
    uplift: UpliftModel

    @property
    def features(self) -> tuple[ModelFeature, ...]:
        """See `Exported`."""
        return self.model.features

    @property
    def split(self) -> TimeSplit:
        """See `Exported`."""
        return self.model.split

    @property
    def learner(self) -> str:
        """See `Exported`."""
        return self.model.learner

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See `Exported`."""
        return (*self.model.outputs, "uplift")

    @property
    def edges(self) -> list[NDArray[np.float32]]:
        """See `Exported`."""
        return thresholds([self.model.booster, self.uplift.booster], len(self.features))

    def scored(self, rows: NDArray[np.float32]) -> Scored:
        """See `Exported`."""
        return self.model.scored(rows)._replace(uplift=self.uplift.uplifts(rows))


def check_parity(graph: bytes, model: Exported, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the graph gives for these rows, `(n_outputs, n)`, after holding it against the model.

    The model is computed in float64, by LightGBM and numpy.

    Raises:
        BundleError: They differ by more than 1e-5 somewhere; says on how many rows and where first.
    """
    given, wanted = GraphScorer(graph, model.outputs).score(rows), model.scored(rows)
    scores = np.array([getattr(given, output) for output in model.outputs])
    for output, found in zip(model.outputs, scores, strict=True):
        expected = getattr(wanted, output)
        error = np.abs(found - expected)
        wrong = ~(error <= PROBE_TOLERANCE)  # NaN is wrong too
        if wrong.any():
            worst = int(np.nanargmax(np.where(np.isnan(error), np.inf, error)))
            raise BundleError(
                f"the ONNX graph differs from the model on {int(wrong.sum())} of {len(rows)} probe rows, by up to"
                f" {error[worst]:.2g} where at most {PROBE_TOLERANCE:g} is allowed (row {worst}: {output} of the graph"
                f" {found[worst]:.6f}, of the model {expected[worst]:.6f}); not packed, the last bundle stands"
            )
    return scores


def build_manifest(
    model: Exported,
    graph: bytes,
    *,
    domain: str,
    name: str,
    version: str,
    run_id: str,
    data_sha256: str,
    git_commit: str,
    now: datetime,
    rng: np.random.Generator,
) -> Manifest:
    """The manifest of a graph that agrees with its model on every edge that it has.

    Raises:
        BundleError: It does not agree.
    """
    rows = synthetic_rows(model.features, model.edges, rng=rng)
    scores = check_parity(graph, model, rows)
    probe = np.ascontiguousarray(rows[:PROBE_ROWS])
    return Manifest(
        domain=domain,
        name=name,
        version=version,
        run_id=run_id,
        created_at=now,
        features=model.features,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        probe=probe.astype("<f4").tobytes(),
        probe_scores=scores[:, :PROBE_ROWS].astype("<f8").tobytes(),
        data_sha256=data_sha256,
        trained_until=model.split.trained_until,
        git_commit=git_commit,
        outputs=model.outputs,
        learner=model.learner,
    )
