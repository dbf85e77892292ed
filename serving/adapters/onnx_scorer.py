"""Scorer over ONNX Runtime: one thread, propensities only, nothing served that was not verified."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from decisioning.bundle import INPUT_NAME, OUTPUT_NAME, Bundle, Manifest, check_probe
from decisioning.errors import BundleError


class OnnxScorer:
    """A bundle that scores here as it did where it was built.

    Raises:
        BundleError: The graph cannot be loaded, has another input or output than the manifest
            says, or scores the probe differently.
    """

    def __init__(self, bundle: Bundle) -> None:
        options = ort.SessionOptions()
        # One thread: with more, the last bits of a score depend on the machine's load.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BundleError(f"the graph of bundle {bundle.sha256[:12]} cannot be loaded: {error}") from error
        names = [node.name for node in self._session.get_inputs()], [node.name for node in self._session.get_outputs()]
        if names[0] != [INPUT_NAME] or OUTPUT_NAME not in names[1]:
            raise BundleError(
                f"the graph of bundle {bundle.sha256[:12]} maps {names[0]} to {names[1]},"
                f" must map '{INPUT_NAME}' to '{OUTPUT_NAME}'"
            )
        self.manifest: Manifest = bundle.manifest
        self.sha256: str = bundle.sha256
        check_probe(bundle.manifest, self.score(bundle.manifest.probe_rows))

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ports.Scorer`."""
        return self._session.run([OUTPUT_NAME], {INPUT_NAME: rows})[0].reshape(-1)
