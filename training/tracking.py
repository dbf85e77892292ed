"""MLflow: runs on the board `models`, registered models, and the aliases champion and challenger.

The only module that imports mlflow, and only when it is used: that alone takes seconds.
"""

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from decisioning.errors import SetupError
from storage.settings import Settings

BOARD = "models"
CHAMPION, CHALLENGER = "champion", "challenger"
BUNDLE_TAG, TRAINED_UNTIL_TAG = "bundle_sha256", "trained_until"
ROLLED_BACK_TAG = "rolled_back"
UNKNOWN_COMMIT = "unknown"


def model_name(domain: str) -> str:
    """Name of a domain's registered model."""
    return f"{domain}-propensity"


def git_commit() -> str:
    """Commit of the code that runs, with `-dirty` when files differ from it; `unknown` outside git."""
    repository = Path(__file__).parents[1]
    command = ["git", "-C", str(repository), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603
    return UNKNOWN_COMMIT


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version of a domain's registered model; `rolled_back` says why, if it was."""

    version: str
    run_id: str
    bundle_sha256: str | None
    rolled_back: str | None


class Tracking:
    """MLflow's store in the state directory; opening it the first time creates its tables (2-3 s)."""

    def __init__(self, settings: Settings) -> None:
        # A pickled model could run code when it is loaded; ours are LightGBM's own text.
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        for name in ("mlflow", "alembic"):  # after the import, which sets them
            logging.getLogger(name).setLevel(logging.WARNING)

        settings.home.mkdir(parents=True, exist_ok=True)
        settings.artifacts_dir.mkdir(parents=True, exist_ok=True)
        self._mlflow = mlflow
        self._uri = settings.mlflow_uri
        self._artifacts = settings.artifacts_dir
        self.client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def board(self, name: str = BOARD) -> str:
        """Id of a board (MLflow's experiment), created at need."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._artifacts / name).absolute().as_uri()
        return str(self.client.create_experiment(name, artifact_location=location))

    @contextlib.contextmanager
    def run(
        self, name: str, *, board: str = BOARD, commit: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[str]:
        """A run; yields its id, and marks it failed when the block raises. `commit`: of the code, if known."""
        source = {"mlflow.source.name": "nextmove", "mlflow.source.git.commit": commit or git_commit()}
        tags = {**source, **(tags or {})}
        run_id = str(self.client.create_run(self.board(board), run_name=name, tags=tags).info.run_id)
        try:
            yield run_id
        except BaseException:
            self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.set_terminated(run_id)

    def find_run(self, board: str, tag: str, value: str) -> str | None:
        """The newest run of a board with this tag, or None."""
        found = self.client.search_runs([self.board(board)], f"tags.`{tag}` = '{value}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def address(self, run_id: str) -> str:
        """Where the run's page is once `mlflow ui` runs over this store on its own port."""
        board = self.client.get_run(run_id).info.experiment_id
        return f"http://127.0.0.1:5000/#/experiments/{board}/runs/{run_id}"

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Parameters, finite metrics and tags, in one call."""
        from mlflow.entities import Metric, Param, RunTag

        finite = {key: float(value) for key, value in (metrics or {}).items() if np.isfinite(value)}
        timestamp = int(pd.Timestamp.now(tz="UTC").timestamp() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, timestamp, step) for key, value in finite.items()],
            params=[Param(key, str(value)) for key, value in (parameters or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )

    def log_text(self, run_id: str, file: str, text: str) -> None:
        """A text artifact; markdown is rendered by MLflow's page."""
        self.client.log_text(run_id, text, file)

    def log_table(self, run_id: str, name: str, table: pd.DataFrame) -> None:
        """A table, as MLflow shows it (`.json`) and as everything else reads it (`.csv`)."""
        self.client.log_text(run_id, table.to_csv(index=False), f"{name}.csv")
        self.client.log_text(run_id, table.to_json(orient="split", index=False), f"{name}.json")

    def log_figure(self, run_id: str, file: str, figure: Any) -> None:
        """A matplotlib figure."""
        self.client.log_figure(run_id, figure, file)

    def log_file(self, run_id: str, file: str, content: bytes) -> None:
        """A file of any kind."""
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / Path(file).name
            path.write_bytes(content)
            self.client.log_artifact(run_id, str(path), str(Path(file).parent))

    def log_data(self, run_id: str, *, name: str, sha256: str, context: str) -> None:
        """The data set by name and hash. Nothing of its content: it is about persons."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        dataset = MetaDataset(CodeDatasetSource(tags={"sha256": sha256}), name=name, digest=sha256[:32])
        self.client.log_inputs(
            run_id, datasets=[DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])]
        )

    def register(self, run_id: str, domain: str, booster: lgb.Booster, n_features: int) -> str:
        """Log the native booster with its signature and register it; the new version."""
        import mlflow.lightgbm
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, n_features), "features")]),
            outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,), "uncalibrated")]),
        )
        self._mlflow.set_tracking_uri(self._uri)
        with self._mlflow.start_run(run_id=run_id):
            logged = mlflow.lightgbm.log_model(
                booster,
                name="booster",
                signature=signature,
                pip_requirements=[f"lightgbm=={lgb.__version__}"],  # inferring them imports the model in a new process
            )
        return self._version(run_id, domain, logged)

    def register_graph(self, run_id: str, domain: str, graph: bytes, n_features: int, outputs: Sequence[str]) -> str:
        """Log an ONNX graph with its signature and register it; the new version."""
        import mlflow.onnx
        import onnx
        import onnxruntime
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, n_features), "features")]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1,), name) for name in outputs]),
        )
        self._mlflow.set_tracking_uri(self._uri)
        with self._mlflow.start_run(run_id=run_id):
            logged = mlflow.onnx.log_model(
                onnx.load_from_string(graph),
                name="graph",
                signature=signature,
                save_as_external_data=False,
                pip_requirements=[f"onnxruntime=={onnxruntime.__version__}"],
            )
        return self._version(run_id, domain, logged)

    def _version(self, run_id: str, domain: str, logged: Any) -> str:
        """A new version of the domain's registered model."""
        name = model_name(domain)
        if not self.client.search_registered_models(f"name='{name}'"):
            self.client.create_registered_model(name)
        created = self.client.create_model_version(
            name, logged.model_uri, run_id, model_id=logged.model_id, await_creation_for=0
        )
        return str(created.version)

    def tag_version(self, domain: str, version: str, tags: Mapping[str, str]) -> None:
        """Notes on a registered version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(model_name(domain), version, key, value)

    def point_alias(self, domain: str, alias: str, version: str) -> None:
        """Let `champion` or `challenger` mean this version."""
        self.client.set_registered_model_alias(model_name(domain), alias, version)

    def version_by_alias(self, domain: str, alias: str) -> RegisteredModel | None:
        """What `champion` or `challenger` means now."""
        from mlflow.exceptions import MlflowException

        try:
            return _registered(self.client.get_model_version_by_alias(model_name(domain), alias))
        except MlflowException:
            return None

    def version_named(self, domain: str, name: str) -> RegisteredModel:
        """What an alias, or a version's number, means.

        Raises:
            SetupError: There is no such model.
        """
        found = self.version_by_alias(domain, name) or next(
            (v for v in self.versions(domain) if v.version == name), None
        )
        if found is None:
            known = ", ".join(sorted((v.version for v in self.versions(domain)), key=int)) or "none"
            raise SetupError(
                f"domain '{domain}' has no model '{name}', must be {CHAMPION}, {CHALLENGER}, or a version: {known}"
            )
        return found

    def version_by_run(self, domain: str, run_id: str) -> RegisteredModel:
        """The version that a run registered.

        Raises:
            SetupError: It registered none.
        """
        for found in self.versions(domain):
            if found.run_id == run_id:
                return found
        raise SetupError(
            f"run '{run_id}' registered no model of domain '{domain}'; `nextmove train` prints the run's id"
        )

    def version_by_bundle(self, domain: str, sha256: str) -> RegisteredModel | None:
        """The version whose bundle has this hash."""
        return next((found for found in self.versions(domain) if found.bundle_sha256 == sha256), None)

    def versions(self, domain: str) -> list[RegisteredModel]:
        """Every registered version."""
        return [_registered(found) for found in self.client.search_model_versions(f"name='{model_name(domain)}'")]


def _registered(found: Any) -> RegisteredModel:
    return RegisteredModel(
        str(found.version), str(found.run_id), found.tags.get(BUNDLE_TAG), found.tags.get(ROLLED_BACK_TAG)
    )
