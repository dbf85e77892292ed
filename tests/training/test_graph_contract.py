"""What a graph from elsewhere may not be; each graph here has one thing wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from decisioning.bundle import ModelFeature
from decisioning.errors import BundleError
from training.graph_contract import MOST_BYTES, admit, with_propensity
from training.probe import PROBE_ROWS

FEATURES = (
    ModelFeature("age", "customer", "number"),
    ModelFeature("colour", "customer", "category", ("blue", "red")),
)
Node = onnx.NodeProto


def graph(
    *nodes: Node,
    outputs: Sequence[str] = ("propensity",),
    input_name: str = "features",
    shape: Sequence[Any] = (None, 2),
    kind: int = TensorProto.FLOAT,
    constants: dict[str, Any] | None = None,
    domains: Sequence[str] = ("",),
) -> bytes:
    known = {"zero": np.float32(0.0), "low": np.float32(-5.0), "high": np.float32(5.0), "one": np.float32(1.0),
             "first": np.int64(0), "columns": np.array([1]), "rows": np.array([0])}  # fmt: skip
    known |= constants or {}
    whole = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(input_name, kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in known.items()],
    )
    opsets = [helper.make_opsetid(domain, 15 if not domain else 1) for domain in domains]
    return helper.make_model(whole, opset_imports=opsets, ir_version=8).SerializeToString()


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Node:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


# Age where it is a number, clipped: `clean`, (n,).
CLEAN = (
    node("Gather", "features first", "age", axis=1),
    node("IsNaN", "age", "missing"),
    node("Where", "missing zero age", "known"),
    node("Clip", "known low high", "clean"),
)


def sound(*more: Node, last: str = "clean", **changes: Any) -> bytes:
    return graph(*CLEAN, *more, node("Sigmoid", last, "propensity"), **changes)


def admitted(content: bytes) -> Any:
    return admit(content, FEATURES, rng=np.random.default_rng(0))


def test_a_sound_graph_is_admitted_with_a_probe() -> None:
    found = admitted(sound())
    assert found.outputs == ("propensity",)
    assert found.probe.shape == (PROBE_ROWS, 2)
    assert found.scores.shape == (1, PROBE_ROWS)
    assert np.isnan(found.probe).any()
    assert np.isinf(found.probe[:, 0]).any()


def test_more_outputs_are_taken_as_what_they_are() -> None:
    more = sound(node("Abs", "clean", "sd"), outputs=("clean", "sd", "propensity"))
    assert admitted(more).outputs == ("propensity", "sd")


def external() -> bytes:
    model = onnx.load_from_string(sound())
    [one] = [each for each in model.graph.initializer if each.name == "one"]
    one.data_location = TensorProto.EXTERNAL
    entry = one.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return bytes(model.SerializeToString())


def with_function() -> bytes:
    model = onnx.load_from_string(sound())
    model.functions.append(
        helper.make_function("mine", "Twice", ["x"], ["y"], [node("Add", "x x", "y")], [helper.make_opsetid("", 15)])
    )
    return bytes(model.SerializeToString())


def random() -> bytes:
    noise = node("RandomNormalLike", "clean", "noise", scale=0.1)
    return sound(noise, node("Add", "clean noise", "noisy"), last="noisy")


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "no model": (lambda: b"no model", "the file is no ONNX model"),
    "nothing": (lambda: b"", "no ONNX model, or one without a single operator"),
    "too large": (lambda: bytes(MOST_BYTES + 1), "at most 64 are allowed"),
    "weights elsewhere": (external, "keeps weights in other files"),
    "own functions": (with_function, "inline_local_functions"),
    "foreign operator": (
        lambda: graph(
            *CLEAN, node("Gelu", "clean", "g", domain="com.microsoft"), node("Sigmoid", "g", "propensity"),
            domains=("", "com.microsoft"),
        ),
        "com.microsoft.Gelu, which are not ONNX's own",
    ),
    "random": (random, "draws at random .RandomNormalLike."),
    "unknown operator": (
        lambda: graph(*CLEAN, node("Sigmoyd", "clean", "propensity")), "ONNX Runtime cannot read the graph",
    ),
    "another input": (
        lambda: graph(
            node("ReduceSum", "x columns", "s", keepdims=0), node("Sigmoid", "s", "propensity"), input_name="x"
        ),
        "inputs are 'x', must be one input 'features'",
    ),
    "doubles": (
        lambda: graph(
            node("Cast", "features", "f", to=1), node("ReduceSum", "f columns", "s", keepdims=0),
            node("Sigmoid", "s", "propensity"), kind=TensorProto.DOUBLE,
        ),
        r"input is tensor\(double\)",
    ),
    "another width": (lambda: sound(shape=(None, 3)), "any x 3, must be one input 'features', .* 2 features"),
    "a fixed number of rows": (lambda: sound(shape=(1, 2)), "shape 1 x 2"),
    "no propensity": (
        lambda: graph(*CLEAN, node("Sigmoid", "clean", "score"), outputs=("score",)),
        "outputs are 'score', must be one 'propensity'",
    ),
    "a column": (
        lambda: sound(node("Unsqueeze", "clean columns", "tall"), last="tall"), r"shape \(\d+, 1\) for \d+ rows",
    ),
    "missing not imputed": (
        lambda: graph(node("Gather", "features first", "age", axis=1), node("Sigmoid", "age", "propensity")),
        r"is nan for \d+ of \d+ rows .* no number in .*age.*; impute",
    ),
    "above 1": (
        lambda: graph(*CLEAN, node("Identity", "clean", "propensity")), "goes from -5 to 5, must stay within 0 and 1",
    ),
    "sd below 0": (
        lambda: sound(node("Identity", "clean", "sd"), outputs=("propensity", "sd")), "'sd' goes from -5 to 5",
    ),
    "over rows": (
        lambda: sound(
            node("ReduceMean", "clean", "mean", axes=[0], keepdims=1), node("Sub", "clean mean", "centred"),
            last="centred",
        ),
        "a row alone scores .* apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    make, says = WRONG[name]
    with pytest.raises(BundleError, match=says):
        admitted(make())


def test_an_operator_within_a_branch_is_looked_at_too() -> None:
    def branch(name: str, *nodes: Node) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])

    hidden = node("RandomNormalLike", "clean", "b")
    both = {"then_branch": branch("then", hidden), "else_branch": branch("else", node("Identity", "clean", "b"))}
    content = sound(node("If", "yes", "either", **both), last="either", constants={"yes": np.array(True)})
    with pytest.raises(BundleError, match="draws at random"):
        admitted(content)


def test_probabilities_of_a_classifier_become_a_propensity() -> None:
    two = (node("Sub", "one likely", "unlikely"), node("Unsqueeze", "likely columns", "l"),
           node("Unsqueeze", "unlikely columns", "u"), node("Concat", "u l", "probabilities", axis=1))  # fmt: skip
    content = graph(*CLEAN, node("Sigmoid", "clean", "likely"), *two, outputs=("probabilities",))
    changed = with_propensity(onnx.load_from_string(content))
    assert admitted(changed).scores == pytest.approx(admitted(sound()).scores)
    with pytest.raises(BundleError, match="no output 'scores'"):
        with_propensity(onnx.load_from_string(content), probabilities="scores")
