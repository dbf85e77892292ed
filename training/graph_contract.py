"""What a graph that was made elsewhere must be before it may decide: looked at, then tried.

The service trusts a bundle: it scores whatever a caller sends, in the middle of a decision. So a
graph must be whole in itself, take any row, and give for each a number that hangs on that row alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from decisioning.bundle import INPUT_NAME, OUTPUT_NAME, PROBE_TOLERANCE, ModelFeature, Output
from decisioning.errors import BundleError
from training.graph_scorer import open_session
from training.probe import PROBE_ROWS, synthetic_rows

MOST_BYTES = 64 * 2**20  # every replica loads it, and the ledger's database keeps it
STANDARD = ("", "ai.onnx", "ai.onnx.ml")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
# Where a graph of unknown making may bend: the sizes that numbers come in.
_POWERS = np.float32(10.0) ** np.arange(-3, 10, dtype=np.float32)
MAGNITUDES = np.sort(np.concatenate([-_POWERS, _POWERS])).astype(np.float32)


class Admitted(NamedTuple):
    """What a graph gives, and gave for the first rows that it was tried on.

    Attributes:
        outputs: `propensity`, then which of the others it has.
        probe: `(PROBE_ROWS, n_features)`.
        scores: `(n_outputs, PROBE_ROWS)`.
    """

    outputs: tuple[Output, ...]
    probe: NDArray[np.float32]
    scores: NDArray[np.float64]


def admit(graph: bytes, features: Sequence[ModelFeature], *, rng: np.random.Generator) -> Admitted:
    """Hold a graph to the contract of `decisioning.bundle`.

    Raises:
        BundleError: What is wrong, and what to do.
    """
    _look_at(graph)
    session = open_session(graph)
    outputs = _declared(session, len(features))
    rows = synthetic_rows(features, [MAGNITUDES] * len(features), rng=rng)
    scores = _run(session, outputs, rows)
    _hold_values(outputs, scores, features, rows)
    if not np.array_equal(scores, _run(session, outputs, rows)):
        raise BundleError("the same rows, scored twice, gave two scores; take out what is random in the graph")
    probe = np.ascontiguousarray(rows[:PROBE_ROWS])
    alone = np.concatenate([_run(session, outputs, row[None]) for row in probe], axis=1)
    apart = np.abs(alone - scores[:, :PROBE_ROWS])
    if (apart > PROBE_TOLERANCE).any():
        raise BundleError(
            f"a row alone scores {apart.max():.2g} apart from the same row among others, at most {PROBE_TOLERANCE:g} is"
            " allowed; what is computed over rows (a mean, a rank, a normalisation) must be a constant of the graph"
        )
    return Admitted(outputs, probe, scores[:, :PROBE_ROWS])


def _look_at(graph: bytes) -> None:
    """What can be seen without running it."""
    if len(graph) > MOST_BYTES:
        raise BundleError(
            f"the graph has {len(graph) / 2**20:.0f} MiB, at most {MOST_BYTES / 2**20:.0f} are allowed;"
            " use fewer or smaller trees or layers"
        )
    try:
        model = onnx.load_from_string(graph)
    except Exception as error:  # protobuf's
        raise BundleError(f"the file is no ONNX model: {str(error).splitlines()[0]}") from error
    if not model.graph.node:
        raise BundleError("the file is no ONNX model, or one without a single operator; export the model again")
    if model.functions:
        raise BundleError("the graph has functions of its own; inline them: onnx.inliner.inline_local_functions")
    nodes, tensors = list(_nodes(model.graph)), list(_tensors(model.graph))
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
        raise BundleError(
            "the graph keeps weights in other files, a bundle is one file;"
            " save it with onnx.save(onnx.load(path), path, save_as_external_data=False)"
        )
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in STANDARD})
    if foreign:
        raise BundleError(
            f"the graph uses {', '.join(foreign)}, which are not ONNX's own operators; export it without extensions"
        )
    chance = sorted({node.op_type for node in nodes if node.op_type in RANDOM})
    if chance:
        raise BundleError(
            f"the graph draws at random ({', '.join(chance)}); a score must be the same each time: the policy explores"
        )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Of a graph and of the graphs within its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Weights of a graph and of the graphs within its nodes, wherever they stand."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _tensors(inner)


def _declared(session: onnxruntime.InferenceSession, n_features: int) -> tuple[Output, ...]:
    """The outputs, once input and outputs are declared as they must be."""
    inputs, outputs = session.get_inputs(), {each.name: each for each in session.get_outputs()}
    must = f"must be one input '{INPUT_NAME}', float32 (any number of rows, {n_features} features)"
    if [each.name for each in inputs] != [INPUT_NAME]:
        named = ", ".join(repr(each.name) for each in inputs) or "none"
        raise BundleError(f"the graph's inputs are {named}, {must}; rename or join them when you export")
    [only] = inputs
    shape = only.shape if only.shape is not None else []
    if only.type != "tensor(float)" or len(shape) != 2 or isinstance(shape[0], int) or shape[1] != n_features:
        shown = " x ".join("any" if size is None else str(size) for size in shape)
        raise BundleError(
            f"the graph's input is {only.type} of shape {shown}, {must};"
            " the columns are those of --features, in their order"
        )
    if OUTPUT_NAME not in outputs:
        raise BundleError(
            f"the graph's outputs are {', '.join(map(repr, outputs))}, must be one '{OUTPUT_NAME}', float32 (rows,);"
            " of a scikit-learn classifier, training.graph_contract.with_propensity makes it from its probabilities"
        )
    found: tuple[Output, ...] = tuple(name for name in get_args(Output) if name in outputs)
    for name in found:
        if outputs[name].type != "tensor(float)":
            raise BundleError(f"the output '{name}' is {outputs[name].type}, must be tensor(float); add a Cast")
    return found


def _run(
    session: onnxruntime.InferenceSession, outputs: Sequence[Output], rows: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What it gives for these rows, `(n_outputs, n)`."""
    try:
        given = session.run(list(outputs), {INPUT_NAME: rows})
    except Exception as error:  # ONNX Runtime's
        raise BundleError(f"the graph does not take {len(rows)} rows: {str(error).splitlines()[0]}") from error
    for name, values in zip(outputs, given, strict=True):
        if values.shape != (len(rows),):
            raise BundleError(
                f"the output '{name}' has shape {values.shape} for {len(rows)} rows, must be ({len(rows)},);"
                " add a Reshape to [-1]"
            )
    return np.array(given, dtype=np.float64)


def _hold_values(
    outputs: Sequence[Output],
    scores: NDArray[np.float64],
    features: Sequence[ModelFeature],
    rows: NDArray[np.float32],
) -> None:
    """Finite, and in its range, whatever a row holds."""
    ranges = {"propensity": (0.0, 1.0), "sd": (0.0, np.inf), "uplift": (-1.0, 1.0)}
    for name, values in zip(outputs, scores, strict=True):
        finite = np.isfinite(values)
        if not finite.all():
            first = int(np.argmin(finite))
            odd = [f.name for f, value in zip(features, rows[first], strict=True) if not np.isfinite(value)]
            raise BundleError(
                f"the output '{name}' is {values[first]} for {int((~finite).sum())} of {len(rows)} rows with missing,"
                f" infinite and huge values (the first has no number in {', '.join(odd[:5]) or 'no column'});"
                " impute what is missing and clip numbers within the graph"
            )
        low, high = ranges[name]
        if values.min() < low or values.max() > high:
            raise BundleError(
                f"the output '{name}' goes from {values.min():.4g} to {values.max():.4g},"
                f" must stay within {low:g} and {high:g}"
            )


def with_propensity(model: onnx.ModelProto, *, probabilities: str = "probabilities") -> bytes:
    """A classifier's graph whose only output is `propensity`, the second column of its probabilities.

    For what skl2onnx makes of a scikit-learn classifier with `options={"zipmap": False}`.

    Raises:
        BundleError: It has no such output.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if probabilities not in {output.name for output in changed.graph.output}:
        raise BundleError(f"the graph has no output '{probabilities}'; name the one with the classes' probabilities")
    for name, value in (("nextmove_second", 1), ("nextmove_flat", -1)):
        changed.graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), name))
    changed.graph.node.extend(
        [
            helper.make_node("Gather", [probabilities, "nextmove_second"], ["nextmove_column"], axis=1),
            helper.make_node("Reshape", ["nextmove_column", "nextmove_flat"], [OUTPUT_NAME]),
        ]
    )
    del changed.graph.output[:]
    changed.graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None]))
    return bytes(changed.SerializeToString())
