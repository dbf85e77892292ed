"""The linear model as one ONNX graph: columns, weights of each action, calibration; two outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from scipy.special import logit

from decisioning.bundle import INPUT_NAME
from training.calibration import FLOOR
from training.export import IR_VERSION, OPSET
from training.linear_input import FURTHEST, LinearInput
from training.linear_model import LinearModel

Float32s = NDArray[np.float32]


def export_linear(model: LinearModel) -> bytes:
    """The ONNX graph.

    Input `features`, float32 `(n, n_features)`; outputs `propensity` and `sd`, float32 `(n,)`. Each
    row takes the weights of its action; the rows of actions that were not met, and they alone, go
    through the prior, which is large.
    """
    graph = _Graph()
    n_columns, n_actions = model.columns.width, len(model.actions)
    x, z = _columns(graph, model.columns), _columns(graph, model.attributes)

    place = graph.constant([model.action_place])
    code = graph.reshape(graph.node("Gather", [INPUT_NAME, place], axis=1), [-1])
    # What is no code, NaN among it, is neither at least 0 nor below.
    from_0 = graph.node("GreaterOrEqual", [code, graph.number(0.0)])
    known = graph.node("And", [from_0, graph.node("Less", [code, graph.number(n_actions)])])
    action = graph.node("Cast", [graph.node("Where", [known, code, graph.number(0.0)])], to=TensorProto.INT64)
    mean = graph.node("Gather", [graph.constant(model.weights.mean), action])
    moved = graph.sum(graph.node("Mul", [x, mean]))
    factor = graph.node("Gather", [graph.constant(model.weights.factor), action])
    reached = graph.node("MatMul", [graph.reshape(x, [-1, 1, n_columns]), factor])
    variance = graph.sum_of_squares(graph.reshape(reached, [-1, n_columns]))

    new = graph.reshape(graph.node("NonZero", [graph.node("Not", [known])]), [-1])
    moved_new, variance_new = _not_met(graph, model, graph.node("Gather", [x, new]), graph.node("Gather", [z, new]))
    moved = graph.node("ScatterElements", [moved, new, moved_new])
    variance = graph.node("ScatterElements", [variance, new, variance_new])

    furthest = graph.number(float(logit(1.0 - FLOOR)))
    log_odds = graph.node("Add", [moved, graph.number(model.base)])
    clipped = graph.node("Clip", [log_odds, graph.node("Neg", [furthest]), furthest])
    slope, intercept = graph.number(model.calibration.slope), graph.number(model.calibration.intercept)
    graph.node("Sigmoid", [graph.node("Add", [graph.node("Mul", [clipped, slope]), intercept])], to_output="propensity")
    graph.node("Mul", [graph.node("Sqrt", [variance]), graph.number(model.sd_factor)], to_output="sd")
    return graph.model(len(model.features), model.outputs)


def _not_met(graph: "_Graph", model: LinearModel, x: str, z: str) -> tuple[str, str]:
    """What attributes foretell of the rows' actions: how far log-odds move, and the variance of that."""
    weights = model.weights
    foretold = graph.node("MatMul", [z, graph.constant(weights.by_attributes)])
    moved = graph.sum(graph.node("Mul", [foretold, x]))
    n_columns, n_attributes = model.columns.width, model.attributes.width
    pairs = graph.node("Mul", [graph.reshape(z, [-1, n_attributes, 1]), graph.reshape(x, [-1, 1, n_columns])])
    pairs = graph.reshape(pairs, [-1, n_attributes * n_columns])
    reached = graph.node("MatMul", [pairs, graph.constant(weights.by_attributes_factor)])
    own = graph.node("Mul", [graph.sum_of_squares(x), graph.number(weights.own_variance)])
    return moved, graph.node("Add", [own, graph.sum_of_squares(reached)])


def _columns(graph: "_Graph", input_: LinearInput) -> str:
    """`LinearInput.of` as nodes: `(n, width)`."""
    columns = input_.columns
    numbers = [at for at, column in enumerate(columns) if column.level is None]
    levels = [at for at, column in enumerate(columns) if column.level is not None and not np.isnan(column.level)]
    gaps = [at for at, column in enumerate(columns) if column.level is not None and np.isnan(column.level)]

    def gather(places: list[int]) -> str:
        return graph.node("Gather", [INPUT_NAME, graph.constant([columns[at].place for at in places])], axis=1)

    rows = graph.node("Shape", [INPUT_NAME], end=1)
    height = graph.node("Concat", [rows, graph.constant([1])], axis=0)
    one = numpy_helper.from_array(np.ones(1, dtype=np.float32))
    parts = [graph.node("ConstantOfShape", [height], value=one)]
    if numbers:
        centre = graph.constant(np.array([columns[at].centre for at in numbers]))
        scale = graph.constant(np.array([columns[at].scale for at in numbers]))
        values = gather(numbers)
        values = graph.node("Where", [graph.node("IsNaN", [values]), centre, values])
        values = graph.node("Div", [graph.node("Sub", [values, centre]), scale])
        parts.append(graph.node("Clip", [values, graph.number(-FURTHEST), graph.number(FURTHEST)]))
    if levels:
        of = graph.constant(np.array([columns[at].level for at in levels], dtype=np.float64))
        parts.append(graph.node("Cast", [graph.node("Equal", [gather(levels), of])], to=TensorProto.FLOAT))
    if gaps:
        parts.append(graph.node("Cast", [graph.node("IsNaN", [gather(gaps)])], to=TensorProto.FLOAT))
    order = np.argsort([-1, *numbers, *levels, *gaps])
    joined = graph.node("Concat", parts, axis=1)
    return graph.node("Gather", [joined, graph.constant(order.tolist())], axis=1)


class _Graph:
    """Nodes and constants as they are added; each is named by its number."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[Any] = []

    def constant(self, values: Float32s | NDArray[np.float64] | Sequence[int]) -> str:
        """Numbers as float32, places as int64."""
        array = np.asarray(values)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def number(self, value: float) -> str:
        """One number."""
        return self.constant(np.array(float(value)))

    def node(self, kind: str, inputs: Sequence[str], *, to_output: str | None = None, **attributes: Any) -> str:
        """What the operator gives."""
        name = to_output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def reshape(self, values: str, shape: Sequence[int]) -> str:
        """In another shape; -1 for rows."""
        return self.node("Reshape", [values, self.constant(list(shape))])

    def sum(self, values: str) -> str:
        """Over columns, `(n,)`."""
        return self.node("ReduceSum", [values, self.constant([1])], keepdims=0)

    def sum_of_squares(self, values: str) -> str:
        """Over columns, `(n,)`."""
        return self.node("ReduceSumSquare", [values], axes=[1], keepdims=0)

    def model(self, n_features: int, outputs: Sequence[str]) -> bytes:
        """The whole."""
        whole = helper.make_graph(
            self._nodes,
            "linear",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, n_features])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in outputs],
            self._constants,
        )
        made = helper.make_model(
            whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nextmove"
        )
        return bytes(made.SerializeToString())
