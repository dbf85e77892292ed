"""One ONNX graph from the models of several stages: the stage that a row asks for picks the model."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from decisioning.bundle import INPUT_NAME, OUTPUT_NAME, Manifest, ModelFeature
from decisioning.next_stage import ASKED
from training.export import IR_VERSION, check_parity, export_graph
from training.graph_scorer import GraphScorer
from training.probe import PROBE_ROWS, synthetic_rows
from training.propensity import PropensityModel
from training.tracking import git_commit


def stage_bundle(
    models: Mapping[str, PropensityModel], *, domain: str, run_id: str, now: datetime, rng: np.random.Generator
) -> tuple[Manifest, bytes]:
    """Manifest and graph of models by stage, which share their features.

    The graph takes those features and, last, which stage is asked for; it gives that stage's propensity.

    Raises:
        BundleError: A stage's graph does not agree with its model.
    """
    some = next(iter(models.values()))
    features = (*some.features, ModelFeature(ASKED, "context", "category", tuple(models)))
    graphs = [_checked(model, rng) for model in models.values()]
    graph = _joined(graphs, len(features))
    probe = _probe(features, models, rng)
    scores = GraphScorer(graph).score(probe).propensity
    manifest = Manifest(
        domain=domain,
        name=f"{domain}-next-stage",
        version=run_id[:8],
        run_id=run_id,
        created_at=now,
        features=features,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        probe=probe.astype("<f4").tobytes(),
        probe_scores=scores.astype("<f8").tobytes(),
        data_sha256=hashlib.sha256(b"".join(graphs)).hexdigest(),
        trained_until=max(model.split.trained_until for model in models.values()),
        git_commit=git_commit(),
    )
    return manifest, graph


def _checked(model: PropensityModel, rng: np.random.Generator) -> bytes:
    graph = export_graph(model)
    check_parity(graph, model, synthetic_rows(model.features, model.edges, rng=rng))
    return graph


def _probe(
    features: tuple[ModelFeature, ...], models: Mapping[str, PropensityModel], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Synthetic rows of a customer, each asked about one of the stages."""
    some = next(iter(models.values()))
    rows = synthetic_rows(some.features, some.edges, rng=rng)[:PROBE_ROWS]
    asked = (np.arange(len(rows)) % len(features[-1].categories)).astype(np.float32)
    return np.ascontiguousarray(np.column_stack([rows, asked]), dtype=np.float32)


def _joined(graphs: list[bytes], n_features: int) -> bytes:
    parts = [compose.add_prefix(onnx.load_from_string(graph), f"stage_{place}_") for place, graph in enumerate(graphs)]
    constants = {
        "first": np.array([0], dtype=np.int64),
        "last": np.array([n_features - 1], dtype=np.int64),
        "end": np.array([n_features], dtype=np.int64),
        "columns": np.array([1], dtype=np.int64),
        "as_column": np.array([-1, 1], dtype=np.int64),
        "flat": np.array([-1], dtype=np.int64),
    }
    own = [f"stage_{place}_{INPUT_NAME}" for place in range(len(parts))]
    given = [f"stage_{place}_{OUTPUT_NAME}" for place in range(len(parts))]
    nodes = [
        helper.make_node("Slice", [INPUT_NAME, "first", "last", "columns"], ["known"]),
        helper.make_node("Slice", [INPUT_NAME, "last", "end", "columns"], ["asked"]),
        helper.make_node("Cast", ["asked"], ["place"], to=TensorProto.INT64),
        *(helper.make_node("Identity", ["known"], [name]) for name in own),
        *(node for part in parts for node in part.graph.node),
        *(helper.make_node("Reshape", [name, "as_column"], [f"{name}_column"]) for name in given),
        helper.make_node("Concat", [f"{name}_column" for name in given], ["all"], axis=1),
        helper.make_node("GatherElements", ["all", "place"], ["picked"], axis=1),
        helper.make_node("Reshape", ["picked", "flat"], [OUTPUT_NAME]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "next_stage",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None])],
        [*initializers, *(each for part in parts for each in part.graph.initializer)],
    )
    return helper.make_model(
        graph, opset_imports=parts[0].opset_import, ir_version=IR_VERSION, producer_name="nextmove"
    ).SerializeToString()
