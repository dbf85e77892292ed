"""One ONNX graph from trees and calibration; and the check that any graph scores as its model does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
import onnxmltools
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType
from scipy.special import logit

from decisioning.bundle import (
    INPUT_NAME,
    MEMBERS_NAME,
    OUTPUT_NAME,
    PROBE_TOLERANCE,
    WITH_MEMBERS,
    Manifest,
    ModelFeature,
    Output,
    Scored,
)
from decisioning.errors import BundleError
from training.calibration import FLOOR
from training.graph_scorer import GraphScorer
from training.probe import PROBE_ROWS, synthetic_rows, thresholds
from training.propensity import PropensityModel
from training.time_split import TimeSplit
from training.uplift import UpliftModel

OPSET, IR_VERSION = 15, 8
_CONVERTER_OPSET = {"": OPSET, "ai.onnx.ml": 1}


def export_graph(
    model: PropensityModel, uplift: UpliftModel | None = None, members: Sequence[PropensityModel] = ()
) -> bytes:
    """The ONNX graph: propensity and, with their models, uplift and members; all models take the same input.

    See `decisioning.bundle` for its inputs and outputs.
    """
    n_features = len(model.features)
    features = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, n_features])
    inputs, outputs = [features], [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None])]
    nodes, constants = _calibrated(model)
    nodes.append(helper.make_node("Reshape", ["column", "flat"], [OUTPUT_NAME]))
    constants["flat"] = np.array([-1], dtype=np.int64)
    if uplift is not None:
        effects = _trees(uplift.booster, n_features, "TreeEnsembleRegressor")
        effects.output[:] = ["effects"]
        nodes += [effects, helper.make_node("Reshape", ["effects", "flat"], ["uplift"])]
        outputs.append(helper.make_tensor_value_info("uplift", TensorProto.FLOAT, [None]))
    if members:
        inputs.append(helper.make_tensor_value_info(WITH_MEMBERS, TensorProto.BOOL, []))
        constants[WITH_MEMBERS] = np.array(False)  # what it is where it is not given
        nodes.append(_if_asked(members))
        outputs.append(helper.make_tensor_value_info(MEMBERS_NAME, TensorProto.FLOAT, [None, len(members)]))
    graph = helper.make_graph(nodes, "propensity", inputs, outputs, _tensors(constants))
    opsets = [helper.make_opsetid(domain, version) for domain, version in _CONVERTER_OPSET.items()]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="nextmove"
    ).SerializeToString()


def _calibrated(model: PropensityModel, prefix: str = "") -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Nodes and constants that make `column`, `(n, 1)`: the trees' margin, clip, slope and intercept, sigmoid.

    The margin is the logit itself, since one taken back from a chance in float32 is less exact. And it is
    counted from where the calibrated one is 0: a steep slope would else leave little of float32's digits
    between two large numbers. Every name begins with `prefix`.
    """
    trees = _trees(model.booster, len(model.features), "TreeEnsembleClassifier")
    trees.name, trees.output[:] = f"{prefix}trees", [f"{prefix}label", f"{prefix}margins"]
    next(attribute for attribute in trees.attribute if attribute.name == "post_transform").s = b"NONE"
    slope, intercept = model.calibration.slope, model.calibration.intercept
    furthest = float(logit(1.0 - FLOOR))
    zero = float(np.clip(-intercept / slope, -furthest, furthest)) if slope > 0.0 else 0.0
    _shift(trees, -zero)
    constants: dict[str, NDArray[Any]] = {
        "second": np.array([1], dtype=np.int64),
        "lowest": np.array(-furthest - zero, dtype=np.float32),
        "highest": np.array(furthest - zero, dtype=np.float32),
        "slope": np.array(slope, dtype=np.float32),
        "intercept": np.array(intercept + slope * zero, dtype=np.float32),
    }
    steps: list[tuple[str, list[str], str, dict[str, int]]] = [
        ("Gather", ["margins", "second"], "margin", {"axis": 1}),
        ("Clip", ["margin", "lowest", "highest"], "clipped", {}),
        ("Mul", ["clipped", "slope"], "sloped", {}),
        ("Add", ["sloped", "intercept"], "calibrated", {}),
        ("Sigmoid", ["calibrated"], "column", {}),
    ]
    nodes = [
        helper.make_node(kind, [prefix + name for name in takes], [prefix + gives], **attributes)
        for kind, takes, gives, attributes in steps
    ]
    return [trees, *nodes], {prefix + name: value for name, value in constants.items()}


def _if_asked(members: Sequence[PropensityModel]) -> NodeProto:
    """Each member's propensity where `with_members`, `(n, n_members)`; else the same of no rows."""
    nodes: list[NodeProto] = []
    constants: dict[str, NDArray[Any]] = {}
    for number, member in enumerate(members):
        own_nodes, own_constants = _calibrated(member, f"member_{number}_")
        nodes += own_nodes
        constants |= own_constants
    columns = [f"member_{number}_column" for number in range(len(members))]
    nodes.append(helper.make_node("Concat", columns, ["asked"], axis=1))
    nothing = numpy_helper.from_array(np.empty((0, len(members)), dtype=np.float32))

    def branch(name: str, nodes: list[NodeProto], constants: dict[str, NDArray[Any]]) -> GraphProto:
        gives = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, len(members)])
        return helper.make_graph(nodes, name, [], [gives], _tensors(constants))

    return helper.make_node(
        "If",
        [WITH_MEMBERS],
        [MEMBERS_NAME],
        then_branch=branch("asked", nodes, constants),
        else_branch=branch("not_asked", [helper.make_node("Constant", [], ["not_asked"], value=nothing)], {}),
    )


def _tensors(constants: dict[str, NDArray[Any]]) -> list[TensorProto]:
    return [numpy_helper.from_array(value, name) for name, value in constants.items()]


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
    def n_members(self) -> int:
        """How many models its ensemble has."""
        ...

    @property
    def edges(self) -> list[NDArray[np.float32]]:
        """Where its scores jump or bend, by feature."""
        ...

    def scored(self, rows: NDArray[np.float32]) -> Scored:
        """The same as its graph, in float64."""
        ...


@dataclass(frozen=True, slots=True)
class OneGraph:
    """A propensity model, and what stands beside it in one graph, over the same input."""

    model: PropensityModel
    uplift: UpliftModel | None = None
    members: tuple[PropensityModel, ...] = ()

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
        return self.model.outputs if self.uplift is None else (*self.model.outputs, "uplift")

    @property
    def n_members(self) -> int:
        """See `Exported`."""
        return len(self.members)

    @property
    def edges(self) -> list[NDArray[np.float32]]:
        """See `Exported`."""
        others = [] if self.uplift is None else [self.uplift.booster]
        return thresholds([self.model.booster, *others, *(each.booster for each in self.members)], len(self.features))

    def scored(self, rows: NDArray[np.float32]) -> Scored:
        """See `Exported`."""
        return Scored(
            self.model.propensities(rows),
            uplift=None if self.uplift is None else self.uplift.uplifts(rows),
            members=np.stack([each.propensities(rows) for each in self.members], axis=1) if self.members else None,
        )


def check_parity(graph: bytes, model: Exported, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the graph gives for these rows, as in `Scored.table`, after holding it against the model.

    The model is computed in float64, by LightGBM and numpy.

    Raises:
        BundleError: They differ by more than 1e-5 somewhere; says on how many rows and where first.
    """
    scorer = GraphScorer(graph, model.outputs, model.n_members)
    scores = scorer.score(rows, with_members=True).table(model.outputs)
    names = [*model.outputs, *(f"{MEMBERS_NAME}[{number}]" for number in range(model.n_members))]
    for output, found, expected in zip(names, scores, model.scored(rows).table(model.outputs), strict=True):
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
        n_members=model.n_members,
        learner=model.learner,
    )
