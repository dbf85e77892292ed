"""Options that many commands share, and the settings that come of them."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from storage.settings import Settings, load_settings

Dataset = Annotated[str | None, typer.Option(help="Data domain: simulated, hillstrom, or one of your own.")]
Data = Annotated[Path | None, typer.Option(help="The domain's input file, where it reads one.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Market = Annotated[str | None, typer.Option(help="Market; the blueprint when absent.")]


def settings_of(dataset: str | None, data: Path | None = None) -> Settings:
    """The settings of the environment and the working directory, with what the command line says instead."""
    settings = load_settings(os.environ, directory=Path.cwd())
    changes: dict[str, Any] = {}
    if dataset is not None:
        changes["domain"] = dataset
    if data is not None:
        changes["data"] = data.expanduser().resolve()
    return replace(settings, **changes)


def now_utc() -> datetime:
    """This instant."""
    return datetime.now(UTC)
