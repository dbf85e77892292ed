"""`nextmove privacy ...`: what is held on a person, erasure, and what is kept no longer than it must be."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from sqlalchemy import Engine

from decisioning.errors import RequestError
from decisioning.profile import Subject
from decisioning.request import CallerId
from nextmove.console import err, next_command, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, now_utc, settings_of, user
from storage.settings import Settings

privacy_app = typer.Typer(help="What is held on a person, erasure, and how long things are kept.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="A customer's id; a visitor's is anonymous: and the visitor's id.")]


@privacy_app.command("erase")
def erase(customer_id: Id, dataset: Dataset = None, as_json: AsJson = False) -> None:
    """Erase a person, by all their ids, from every store; it holds at the next call, and takes a minute to be done.

    Stopped, it goes on in the service, or with the next erase.

    Example: nextmove privacy erase c-00017
    """
    from storage.id_digests import id_digests
    from storage.privacy.erasure import GRACE, advance, erasing_alone, is_due
    from storage.privacy.requests import ask_for_erasure, request_of, requests_of

    settings = settings_of(dataset)
    with _ledger(settings) as engine, step("privacy erase") as progress:
        units, digests = _units(settings, customer_id), id_digests(settings)
        asked = ask_for_erasure(engine, settings.domain, units, digests, actor=user(), now=now_utc())
        _bury(settings, units, erased=True)
        while True:
            with erasing_alone(settings, wait=True):
                for request in requests_of(engine, settings.domain, state="pending"):
                    if is_due(request, now=now_utc()):
                        progress(f"request {request.request_id}: deleting")
                        advance(settings, engine, request, now=now_utc())
            found = request_of(engine, settings.domain, asked.request_id)
            assert found is not None
            if found.state == "done":
                break
            progress(f"deleted; in {GRACE.seconds} s once more, for what was under way")
            time.sleep(1)
        rows = sum(found.progress.counts.values())
        progress.result = f"request {found.request_id}: {rows:,} rows, keys and files"
    if as_json:
        print_json(_document(found))
    next_command("nextmove privacy requests")


@privacy_app.command("export")
def export_person(
    customer_id: Id,
    to: Annotated[Path | None, typer.Option(help="File to write; to the console when absent.")] = None,
    dataset: Dataset = None,
) -> None:
    """Write everything that is held on a person, by all their ids, as one JSON document.

    Example: nextmove privacy export c-00017 --to c-00017.json
    """
    from storage.privacy.export import export, holds_anything

    settings = settings_of(dataset)
    with _ledger(settings) as engine:
        units = _units(settings, customer_id)
        if not holds_anything(settings, engine, units):
            raise RequestError(f"nothing is held on a customer '{customer_id}'", where="customer_id")
        pieces = export(settings, engine, units, now=now_utc())
        if to is None:
            for piece in pieces:
                typer.echo(piece.decode(), nl=False)
            typer.echo()
        else:
            with to.open("wb") as file:
                file.writelines(pieces)
            err.print(f"written to {to}")


@privacy_app.command("requests")
def list_requests(dataset: Dataset = None, as_json: AsJson = False) -> None:
    """List requests for erasure, with how far each is; they name nobody.

    Example: nextmove privacy requests
    """
    from storage.privacy.requests import requests_of

    settings = settings_of(dataset)
    with _ledger(settings) as engine:
        found = requests_of(engine, settings.domain)
    if as_json:
        print_json([_document(request) for request in found])
    elif not found:
        out.print("nobody was erased")
        next_command("nextmove privacy erase ID")
    else:
        rows = [
            (
                request.request_id,
                request.progress.problem or request.state,
                f"{request.requested_at:%Y-%m-%d %H:%M}",
                f"{request.completed_at:%Y-%m-%d %H:%M}" if request.completed_at else "-",
                sum(request.progress.counts.values()),
            )
            for request in found
        ]
        print_table("Requests", ("request", "state", "asked", "done", "deleted"), rows)


@privacy_app.command("readmit")
def readmit_person(customer_id: Id, dataset: Dataset = None) -> None:
    """Let an erased id be a customer's again: from then on, what is told of it is kept.

    Example: nextmove privacy readmit c-00017
    """
    from storage.id_digests import id_digests
    from storage.privacy.requests import readmit

    settings = settings_of(dataset)
    units = {settings.pseudonyms.of(customer_id), customer_id}
    with _ledger(settings) as engine:
        digests = id_digests(settings)
        found = [readmit(engine, settings.domain, unit, digests, actor=user(), now=now_utc()) for unit in sorted(units)]
    if not any(found):
        raise RequestError(f"'{customer_id}' is not erased", where="customer_id")
    _bury(settings, units, erased=False)
    out.print("from the next call on, the id is one like others; what was erased stays erased")
    next_command("nextmove privacy requests")


@privacy_app.command("purge")
def purge_old(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, delete nothing.")] = False,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is older than the settings retention_days_... allow; without them nothing has an end.

    Example: nextmove privacy purge --dry-run
    """
    from storage.privacy.retention import purge

    settings = settings_of(dataset)
    with _ledger(settings) as engine:
        done = purge(settings, engine, now=now_utc(), dry_run=dry_run)
    if as_json:
        print_json([each._asdict() for each in done])
        return
    rows = [(each.table, "for ever" if each.days is None else f"{each.days} days", each.rows) for each in done]
    print_table("Would be deleted" if dry_run else "Deleted", ("table", "kept", "rows"), rows)
    if dry_run:
        next_command("nextmove privacy purge")


@contextmanager
def _ledger(settings: Settings) -> Iterator[Engine]:
    from storage.ledger.database import open_ledger

    engine = open_ledger(settings)
    try:
        yield engine
    finally:
        engine.dispose()


def _units(settings: Settings, customer_id: str) -> tuple[str, ...]:
    """Every id of the person."""
    from storage.hot_state.rebuild import open_hot_state

    _check(customer_id)
    kept_as = settings.pseudonyms.of(customer_id)

    async def ask() -> tuple[str, ...]:
        with closing(open_hot_state(settings, now=now_utc())) as hot_state:
            person = (await hot_state.read(Subject(kept_as), now=now_utc())).person
            return person.members if person is not None else ()

    return tuple({*asyncio.run(ask()), kept_as, customer_id})


def _bury(settings: Settings, units: Any, *, erased: bool) -> None:
    from storage.hot_state.rebuild import open_hot_state

    async def tell() -> None:
        with closing(open_hot_state(settings, now=now_utc())) as hot_state:
            await hot_state.bury(units, erased=erased)

    asyncio.run(tell())


def _check(customer_id: str) -> None:
    try:
        msgspec.convert(customer_id, CallerId)
    except msgspec.ValidationError as error:
        raise RequestError(
            "the id must have 1 to 256 characters, none of them for control", where="customer_id"
        ) from error


def _document(request: Any) -> dict[str, Any]:
    return {
        "request_id": request.request_id,
        "status": request.state,
        "requested_at": request.requested_at.isoformat(),
        "completed_at": request.completed_at.isoformat() if request.completed_at else None,
        "counts": request.progress.counts,
        "problem": request.progress.problem,
    }
