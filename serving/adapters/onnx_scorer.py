"""Scorer over ONNX Runtime: one thread, what the manifest names only, nothing served that was not verified."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from decisioning.bundle import INPUT_NAME, MEMBERS_NAME, WITH_MEMBERS, Bundle, Manifest, Scored, check_probe
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
        outputs = [*bundle.manifest.outputs, *([MEMBERS_NAME] if bundle.manifest.n_members else [])]
        if names[0] != [INPUT_NAME] or not set(outputs) <= set(names[1]):
            raise BundleError(
                f"the graph of bundle {bundle.sha256[:12]} maps {names[0]} to {names[1]},"
                f" must map '{INPUT_NAME}' to {', '.join(repr(output) for output in outputs)}"
            )
        self.manifest: Manifest = bundle.manifest
        self.sha256: str = bundle.sha256
        self._outputs = list(bundle.manifest.outputs)
        check_probe(bundle.manifest, self.score(bundle.manifest.probe_rows, with_members=True))

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        """See `ports.Scorer`."""
        if with_members and self.manifest.n_members:
            *given, members = self._session.run(
                [*self._outputs, MEMBERS_NAME], {INPUT_NAME: rows, WITH_MEMBERS: np.array(True)}
            )
        else:
            given, members = self._session.run(self._outputs, {INPUT_NAME: rows}), None
        each = {name: values.reshape(-1) for name, values in zip(self._outputs, given, strict=True)}
        return Scored(**each, members=members)
