"""Scoring with the graph that is served, for export checks, evaluation and the gate."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from decisioning.bundle import INPUT_NAME, MEMBERS_NAME, OUTPUT_NAME, WITH_MEMBERS, Bundle, Output, Scored, check_probe
from decisioning.errors import BundleError

BLOCK = 4_096  # rows at a time: bounds what ONNX Runtime holds, some tens of KB a row for a linear model


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session with one thread: with more, the last bits of one row in seven change.

    Raises:
        BundleError: ONNX Runtime cannot read the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # it warns of an input with a default, which `with_members` is to be
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a tree of its own, without a public base
        raise BundleError(f"ONNX Runtime cannot read the graph: {str(error).splitlines()[0]}") from error


class GraphScorer:
    """An ONNX graph, scored with one thread.

    Raises:
        BundleError: ONNX Runtime cannot read the graph, or it lacks an output.
    """

    def __init__(self, graph: bytes, outputs: Sequence[Output] = (OUTPUT_NAME,), n_members: int = 0) -> None:
        self._session = open_session(graph)
        self._has_members = n_members > 0
        named = {*outputs, MEMBERS_NAME} if self._has_members else set(outputs)
        missing = named - {node.name for node in self._session.get_outputs()}
        if missing:
            raise BundleError(f"the graph does not give {', '.join(sorted(missing))}, which its manifest names")
        self._outputs: list[str] = list(outputs)

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        """What the graph gives, in float64, for model input, `(n, n_features)`; members only `with_members`."""
        outputs, asked = self._outputs, {}
        if with_members and self._has_members:
            outputs, asked = [*outputs, MEMBERS_NAME], {WITH_MEMBERS: np.array(True)}
        blocks = [
            self._session.run(outputs, {INPUT_NAME: rows[start : start + BLOCK], **asked})
            for start in range(0, max(len(rows), 1), BLOCK)
        ]
        joined = [np.concatenate(each).astype(np.float64) for each in zip(*blocks, strict=True)]
        return Scored(**dict(zip(outputs, joined, strict=True)))


def verified_scorer(bundle: Bundle) -> GraphScorer:
    """A scorer for this bundle, once its probe has given what it gave when it was built.

    Raises:
        BundleError: It has not.
    """
    scorer = GraphScorer(bundle.graph, bundle.manifest.outputs, bundle.manifest.n_members)
    try:
        scores = scorer.score(bundle.manifest.probe_rows, with_members=True)
    except Exception as error:
        raise BundleError(
            f"the graph of model {bundle.manifest.version} does not take its probe: {str(error).splitlines()[0]}"
        ) from error
    check_probe(bundle.manifest, scores)
    return scorer
