"""Options that many commands share, and the settings that come of them."""

import getpass
import os
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from decisioning.errors import RequestError
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


def refuse_unknown(what: str, name: str | None, known: Collection[str]) -> None:
    """Refuse an option that names something that there is not.

    Raises:
        RequestError: With what there is.
    """
    if name is not None and name not in known:
        raise RequestError(f"there is no {what} '{name}', must be one of {', '.join(known) or '(none)'}", where=what)


def user() -> str:
    """Who is at the command line; in a container that may be nobody with a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"
