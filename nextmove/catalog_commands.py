"""`nextmove catalog ...`: what marketers check, look at and release.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from decisioning.catalog import Catalog, Release
from decisioning.catalog_warnings import warnings
from decisioning.content import Content
from decisioning.content_types import BLUEPRINT
from decisioning.errors import CatalogError
from nextmove.console import err, next_command, out, print_json
from nextmove.journey_chart import journey_chart
from nextmove.options import AsJson, Dataset, Market, now_utc, refuse_unknown, settings_of
from storage.catalog_diff import differences, in_words, readable, release_notes
from storage.catalog_schema import catalog_schema
from storage.settings import Settings

catalog_app = typer.Typer(
    help="The catalogue: what may be proposed, to whom, where and how often.", no_args_is_help=True
)
_COUNTED = (
    "actions", "placements", "contact_policies", "cool_downs", "quiet_hours", "budgets", "journeys", "audiences",
    "sources", "hooks", "moments", "holdouts", "layers", "metrics", "experiments", "event_features",
)  # fmt: skip


@catalog_app.command("check")
def check(dataset: Dataset = None, as_json: AsJson = False) -> None:
    """Check the catalogue's files as a whole; every mistake in one report, and what may be one.

    Where a catalogue is served, also what of them a release would refuse: see nextmove catalog release.

    Example: nextmove catalog check --dataset simulated
    """
    from nextmove.steps import proposed

    try:
        files = proposed(settings_of(dataset), now=now_utc())
    except CatalogError as error:
        if not as_json:
            raise
        print_json({"ok": False, "mistakes": error.mistakes})
        sys.exit(1)
    release = files.release
    counts = {market: _counts(catalog.content) for market, catalog in _blueprint_first(release).items()}
    doubts = [*warnings(release.blueprint.content), *(f"a release is refused: {mistake}" for mistake in files.moved)]
    if as_json:
        print_json({"ok": True, "version": release.version, "markets": counts, "warnings": doubts})
        return
    for doubt in doubts:
        err.print(f"warning: {doubt}", style="yellow")
    for market, numbers in counts.items():
        out.print(f"ok: {market}: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in numbers.items()))
    next_command("nextmove catalog release")


@catalog_app.command("show")
def show(
    dataset: Dataset = None,
    market: Market = None,
    diff: Annotated[bool, typer.Option("--diff", help="What differs from the blueprint, and who says so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a market's whole catalogue as its files make it, or what it does not share with the blueprint.

    Example: nextmove catalog show --market de --diff
    """
    from nextmove.steps import catalog_folder, features_of
    from storage.catalog_files import read_sources, release_of

    settings = settings_of(dataset)
    sources = read_sources(catalog_folder(settings))
    _, release = release_of(sources, features=features_of(settings))
    content = release.of(market).content
    if not diff:
        said = readable(content)
        if as_json:
            print_json(said)
        else:
            sys.stdout.write(yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120))
        return
    rows = [
        {
            "path": change.path,
            "blueprint": change.before,
            "market": change.after,
            "from": sources.line(content.market, change.path),
        }
        for change in differences(release.blueprint.content, content)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(f"{row['path']}: {in_words(row['blueprint'])} -> {in_words(row['market'])}  ({row['from']})")
    if not rows:
        out.print(f"{content.market} does not differ from the blueprint")


@catalog_app.command("release")
def release(
    dataset: Dataset = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "nextmove catalog release",
    as_json: AsJson = False,
) -> None:
    """Make the checked files the served catalogue, with notes of what changed; services follow within 5 s.

    Refused is what would move units of an experiment that has begun, unless its version is raised.

    Example: nextmove catalog release --reason "spring sale"
    """
    from nextmove.steps import open_home, release_catalog

    settings = settings_of(dataset)
    open_home(settings)
    files = release_catalog(settings, now=now_utc(), reason=reason)
    released, changed = files.release, files.is_new
    notes = _notes(files.served, released, reason=reason) if changed else {}
    paths = _write_notes(settings, released, notes)
    if as_json:
        written = {market: str(path) for market, path in paths.items()}
        print_json({"version": released.version, "changed": changed, "notes": written})
        return
    if not changed:
        out.print(f"already released: {released.version}; nothing changed")
        return
    out.print(f"released: {released.version}")
    for market, path in paths.items():
        out.print(f"\n{notes[market]}({path})")


@catalog_app.command("journey")
def journey(
    dataset: Dataset = None,
    market: Market = None,
    journey_id: Annotated[str | None, typer.Option("--journey", help="Journey; every one when absent.")] = None,
) -> None:
    """Draw journeys as a Mermaid state diagram: stages, their rules, and the events between them.

    Example: nextmove catalog journey --market de
    """
    from nextmove.steps import read_files

    release = read_files(settings_of(dataset))
    journeys = {each.id: each for each in release.of(market).content.journeys}
    refuse_unknown("journey", journey_id, journeys)
    wanted = [each for each in journeys.values() if journey_id in (None, each.id)]
    sys.stdout.write(journey_chart(wanted) + "\n")


@catalog_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the catalogue's files, for editors.

    Example: nextmove catalog schema
    """
    print_json(catalog_schema())


def _counts(content: Content) -> dict[str, int]:
    return {kind: len(getattr(content, kind)) for kind in _COUNTED}


def _blueprint_first(release: Release) -> dict[str, Catalog]:
    return {BLUEPRINT: release.blueprint, **release.markets}


def _notes(before: Release | None, released: Release, *, reason: str) -> dict[str, str]:
    """The notes of every market that there is or was."""
    old = before.markets if before is not None else {}
    return {
        market: release_notes(
            market,
            old[market].content if market in old else None,
            released.markets[market].content if market in released.markets else None,
            version=released.version,
            reason=reason,
            previous=before.version if before is not None else None,
        )
        for market in {**_blueprint_first(released), **old}
    }


def _write_notes(settings: Settings, released: Release, notes: dict[str, str]) -> dict[str, Path]:
    folder = settings.home / "releases" / released.version.removeprefix("sha256:")[:12]
    paths = {market: folder / f"{market}.md" for market in notes}
    if notes:
        folder.mkdir(parents=True, exist_ok=True)
    for market, text in notes.items():
        paths[market].write_text(text, encoding="utf-8")
    return paths
