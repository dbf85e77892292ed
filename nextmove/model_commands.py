"""`nextmove model ...`: models that were made elsewhere."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from decisioning.errors import DataError
from nextmove.console import next_command, out, print_json, step
from nextmove.options import AsJson, Dataset, Mapping, dataset_options, now_utc, settings_of, since_when

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

model_app = typer.Typer(help="Models that were made elsewhere.", no_args_is_help=True)


@model_app.callback()
def _group() -> None:
    """Keep `add` a word of its own while it is the only one."""


@model_app.command("add")
def add(
    graph: Annotated[Path, typer.Argument(help="The ONNX file.")],
    features: Annotated[
        str,
        typer.Option(help="Its columns: a YAML or JSON file, or champion, challenger or a version that has the same."),
    ],
    trained_until: Annotated[
        str, typer.Option(help="Time of the latest decision that it learnt from; a date counts to its end.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call its run; the file's name when absent.")] = None,
    dataset: Dataset = None,
    mapping: Mapping = None,
    as_json: AsJson = False,
) -> None:
    """Check an ONNX model against the bundle's contract and register it as challenger.

    docs/models.md has the contract, and a scikit-learn model that meets it.

    Example: nextmove model add forest.onnx --features champion --trained-until 2026-01-31
    """
    from nextmove import steps
    from training.imported_model import add_model, features_of

    settings = settings_of(dataset, mapping=mapping)
    steps.open_home(settings)
    catalog = steps.released(settings).everywhere
    now = now_utc()
    until = since_when(trained_until, now=now, option="--trained-until")
    if _DATE.fullmatch(trained_until) and until <= now:
        until = min(until + timedelta(days=1), now)
    try:
        content = graph.expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{graph} cannot be read: {error.strerror}", where="graph") from error
    with step("model add") as progress:
        columns = features_of(features, settings, settings.domain)
        progress(f"trying {graph.name} on missing, unseen, infinite and huge values")
        bundle, run_id = add_model(
            content, columns, settings, catalog=catalog, trained_until=until, name=name or graph.stem, now=now
        )
        progress.result = f"version {bundle.manifest.version} is challenger, run {run_id}"
    if as_json:
        print_json(
            {
                "run_id": run_id,
                "version": bundle.manifest.version,
                "bundle_sha256": bundle.sha256,
                "outputs": list(bundle.manifest.outputs),
                "trained_until": until.isoformat(),
            }
        )
    else:
        out.print(
            f"version {bundle.manifest.version}: {len(columns)} features, gives {', '.join(bundle.manifest.outputs)}"
        )
    next_command(f"nextmove evaluate {dataset_options(settings)}")
