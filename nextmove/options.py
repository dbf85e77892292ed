"""Options that many commands share, and the settings that come of them."""

import getpass
import os
import re
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from decisioning.errors import RequestError, SetupError
from storage.settings import Settings, load_settings

Dataset = Annotated[str | None, typer.Option(help="Data domain: simulated, hillstrom, or files for your own data.")]
Data = Annotated[Path | None, typer.Option(help="The domain's input file, or of --dataset files the folder of yours.")]
Mapping = Annotated[
    Path | None, typer.Option(help="What your own data mean: YAML, see docs/bring_your_own_data.md; NEXTMOVE_MAPPING.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
OWN_DATA = "files"
Ledger = Annotated[
    Path | None, typer.Option(help="State directory whose decisions are meant, such as a simulation's; else the own.")
]
Market = Annotated[str | None, typer.Option(help="Market; the blueprint when absent.")]
_DURATION = re.compile(r"(\d+)(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def settings_of(dataset: str | None, data: Path | None = None, mapping: Path | None = None) -> Settings:
    """The settings of the environment and the working directory, with what the command line says instead.

    With a mapping the domain is the one that it names, and its catalogue is in a folder beside it.

    Raises:
        RequestError: `--dataset files` without a mapping, or a mapping for another data set.
        DataError: The mapping cannot be read.
    """
    settings = load_settings(os.environ, directory=Path.cwd())
    changes: dict[str, Any] = {}
    if data is not None:
        changes["data"] = data.expanduser().resolve()
    chosen = mapping.expanduser().resolve() if mapping is not None else settings.mapping
    if chosen is None:
        if dataset == OWN_DATA:
            raise RequestError(f"--dataset {OWN_DATA} needs --mapping my.yaml, or NEXTMOVE_MAPPING", where="mapping")
    else:
        from storage.data_mapping import read_data_mapping

        name = read_data_mapping(chosen).name
        if dataset in (None, OWN_DATA, name):
            dataset = name
            changes["mapping"] = chosen
            if settings.catalog_dir == Settings().catalog_dir:
                changes["catalog_dir"] = chosen.parent / "catalog"
        elif mapping is not None:
            raise RequestError(
                f"--mapping is of '{name}', --dataset is '{dataset}', must be {OWN_DATA}", where="dataset"
            )
        else:
            changes["mapping"] = None
    if dataset is not None:
        changes["domain"] = dataset
    return replace(settings, **changes)


def dataset_options(settings: Settings) -> str:
    """The options under which the next command finds the same data set."""
    if settings.mapping is None:
        return f"--dataset {settings.domain}"
    return f"--dataset {OWN_DATA} --mapping {settings.mapping}" + (f" --data {settings.data}" if settings.data else "")


def now_utc() -> datetime:
    """This instant."""
    return datetime.now(UTC)


def since_when(text: str, *, now: datetime, option: str = "--since") -> datetime:
    """The instant that `30m`, `12h`, `1d`, `2w` or a date says.

    >>> since_when("2w", now=datetime(2026, 1, 15, tzinfo=UTC)).isoformat()
    '2026-01-01T00:00:00+00:00'
    >>> since_when("2026-01-02", now=datetime(2026, 1, 15, tzinfo=UTC)).isoformat()
    '2026-01-02T00:00:00+00:00'

    Raises:
        SetupError: It says none.
    """
    ago = _DURATION.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise SetupError(
            f"{option} is '{text}', must be a time ago such as 30m, 12h, 1d or 2w, or a date such as 2026-01-31",
            where=option.removeprefix("--"),
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def seconds_of(every: str) -> int:
    """What `30s`, `5m` or `2h` says.

    >>> seconds_of("5m")
    300

    Raises:
        RequestError: It is no time.
    """
    said = re.fullmatch(r"([1-9]\d{0,5})([smh])", every)
    if said is None:
        raise RequestError(f"--every is '{every}', must be a time such as 30s, 5m or 2h", where="every")
    return int(said[1]) * {"s": 1, "m": 60, "h": 3_600}[said[2]]


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
