"""`nextmove audience ...`: how many customers audiences and actions have, now and over time; lists of them for others.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from decisioning.audience_list import ContactKind, Lists, Wanted, hashed, lists_of
from decisioning.catalog import Catalog, Release
from decisioning.content_types import MARKETING, PURPOSES, Purpose
from decisioning.errors import RequestError
from decisioning.record import AuditRecord
from decisioning.running_dry import PAST, Size, by_day, warnings
from nextmove.console import err, next_command, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, Market, now_utc, refuse_unknown, settings_of, since_when, user
from storage.contact_files import write_contacts
from storage.ledger.audience_sizes import keep_sizes, kept_sizes
from storage.settings import Settings

audience_app = typer.Typer(invoke_without_command=True)
_BARS = "▁▂▃▄▅▆▇█"
_DAYS = 28  # of a history's bars


@audience_app.callback()
def audience(
    context: typer.Context,
    dataset: Dataset = None,
    market: Market = None,
    audience_id: Annotated[
        str | None, typer.Option("--audience", help="This audience alone; all of them, and all actions, when absent.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="The sizes that were kept, day by day.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the ingested customers in each audience, and those to whom each action is open now.

    A count of everything under the released catalogue is kept: run it daily. Caps, cool-downs, quiet hours,
    budgets and the control are left aside. Exit code 1 where something runs dry or is below its minimum size.

    Example: nextmove audience --history
    """
    if context.invoked_subcommand is not None:
        if dataset is not None or market is not None:
            raise RequestError(f"--dataset and --market must stand behind '{context.invoked_subcommand}'")
        return
    from nextmove.steps import read_files

    settings = settings_of(dataset)
    release = read_files(settings)
    catalog = release.of(market)
    refuse_unknown("audience", audience_id, [each.id for each in catalog.content.audiences])
    if history:
        _history(settings, catalog, audience_id, as_json=as_json)
    else:
        _count(settings, release, catalog, audience_id, as_json=as_json)


@audience_app.command("export")
def export(
    audience_id: Annotated[str, typer.Argument(help="Audience of the released catalogue.")],
    channel: Annotated[str, typer.Option(help="Channel on which they must have consented.")],
    contact: Annotated[str, typer.Option(help="Customer feature that holds the contact.")],
    to: Annotated[Path, typer.Option(help="CSV file; what it held is replaced.")],
    kind: Annotated[ContactKind, typer.Option(help="email, or phone in E.164 (+491701234567).")] = "email",
    purpose: Annotated[str, typer.Option(help="Purpose to which they must have consented.")] = MARKETING,
    recent_buyers: Annotated[
        str | None,
        typer.Option(help="Leave out who bought within this time (30d), and list all who did in NAME.suppression.csv."),
    ] = None,
    product: Annotated[
        list[str] | None, typer.Option(help="Bought this, not just anything. Repeatable; with --recent-buyers.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Contacts as they are instead of SHA-256.")] = False,
    market: Market = None,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Write an audience's contacts for an ad platform or e-mail tool: who consented, hashed, each once; audited.

    Example: nextmove audience export loyal --channel email --contact email --to loyal.csv --recent-buyers 30d
    """
    from nextmove.steps import released
    from training.foretold_customers import Foretelling
    from training.known_customers import known_customers

    settings, now = settings_of(dataset), now_utc()
    release = released(settings)
    catalog = release.of(market)
    refuse_unknown("audience", audience_id, list(catalog.audiences))
    refuse_unknown("channel", channel, list(catalog.channels))
    refuse_unknown("purpose", purpose, PURPOSES)
    texts = catalog.features.customer if catalog.features is not None else {}
    refuse_unknown("text among the customers' features called", contact, [n for n, k in texts.items() if k == "text"])
    if product and recent_buyers is None:
        raise RequestError("--product says what recent buyers bought: give --recent-buyers 30d too", where="product")
    since = None if recent_buyers is None else since_when(recent_buyers, now=now, option="--recent-buyers")
    wanted = Wanted(audience_id, msgspec.convert(purpose, Purpose), channel, contact, kind, since, tuple(product or ()))
    with step("list customers") as progress:
        foretelling = Foretelling(settings, catalog, now=now)
        known = known_customers(settings, release.event_features, now=now)
        customers = (foretelling.of(customer).facts for customer in known)
        lists = lists_of(catalog, customers, wanted, now=now, untold=foretelling.untold)
        progress.result = f"{len(lists.members):,} contacts"
    files = {to: lists.members}
    if since is not None:
        files[to.with_name(f"{to.stem}.suppression{to.suffix}")] = lists.buyers
    write_contacts(
        settings,
        {path: contacts if plain else [hashed(each) for each in contacts] for path, contacts in files.items()},
        header=kind,
        entry=AuditRecord(
            at=now,
            domain=settings.domain,
            actor=user(),
            what="audience.export",
            subject=audience_id if market is None else f"{market}/{audience_id}",
            reason=f"{len(lists.members)} {kind} contacts and {len(lists.buyers)} recent buyers,"
            f" {'plain' if plain else 'hashed'}, for {purpose} on {channel}",
        ),
    )
    _said(lists, files, foretelling.problem, as_json=as_json)


def _said(lists: Lists, files: dict[Path, tuple[str, ...]], problem: str | None, *, as_json: bool) -> None:
    written = {str(path): len(contacts) for path, contacts in files.items()}
    if as_json:
        counts = {"left_out": dict(lists.left_out), "outside": lists.outside, "unknown": lists.unknown}
        print_json({"files": written, **counts, "not_foretold": problem})
        return
    for path, count in written.items():
        out.print(f"{path}: {count:,} contacts")
    for reason, count in lists.left_out.items():
        out.print(f"left out: {count:,} ({reason})")
    if lists.unknown:
        out.print(f"left out: {lists.unknown:,} (not known whether in the audience)")
    if problem:
        out.print(problem)


def _count(settings: Settings, release: Release, catalog: Catalog, audience_id: str | None, *, as_json: bool) -> None:
    from nextmove.steps import last_released
    from training.audiences import count_audiences
    from training.foretold_customers import Foretelling
    from training.known_customers import known_customers

    now = now_utc()
    with step("count customers") as progress:
        foretelling = Foretelling(settings, catalog, now=now)
        counted = count_audiences(
            catalog,
            map(foretelling.of, known_customers(settings, release.event_features, now=now)),
            now=now,
            only=None if audience_id is None else [audience_id],
            untold=foretelling.untold,
            progress=progress,
        )
        progress.result = f"{counted.customers:,} customers"
    sizes = counted.sizes()
    past = kept_sizes(settings, since=now - PAST, market=counted.market)
    found = warnings(sizes, past, catalog.content)
    served = last_released(settings)
    kept = audience_id is None and served is not None and served.version == catalog.version
    if kept:
        keep_sizes(settings, sizes)
    if as_json:
        said = {"warnings": found, "kept": kept, "not_foretold": foretelling.problem}
        print_json({**msgspec.to_builtins(counted), **said})
    else:
        rows = [
            (
                each.audience,
                f"{each.members:,}",
                f"{each.unknown:,}",
                ", ".join(f"{c} {n:,} of {each.minimum[c]:,}" for c, n in each.reachable.items()) or "-",
            )
            for each in counted.audiences
        ]
        print_table("Audiences", ("audience", "customers", "not known", "reachable of minimum"), rows)
        if audience_id is None:
            open_to = [(each.action, f"{each.open_to:,}", f"{each.unknown:,}") for each in counted.actions]
            print_table("Actions, caps aside", ("action", "open to", "only a request can say"), open_to)
        if foretelling.problem:
            out.print(foretelling.problem)
        for sentence in found:
            out.print(f"warning: {sentence}")
        if kept:
            next_command("nextmove audience --history")
        elif audience_id is None:
            err.print("not kept: these files are not the released catalogue")
            next_command("nextmove catalog release")
        else:
            next_command("nextmove audience")
    if found:
        sys.exit(1)


def _history(settings: Settings, catalog: Catalog, audience_id: str | None, *, as_json: bool) -> None:
    now = now_utc()
    by_what: dict[tuple[str, str, str], list[Size]] = {}
    for size in kept_sizes(settings, since=now - PAST, market=catalog.content.market):
        if audience_id is None or (size.kind != "action" and size.id.partition("/")[0] == audience_id):
            by_what.setdefault(size.what, []).append(size)
    days = {what: by_day(sizes) for what, sizes in by_what.items()}
    if as_json:
        print_json(
            [
                {"market": market, "kind": kind, "id": name, "days": [_day(size) for size in sizes]}
                for (market, kind, name), sizes in days.items()
            ]
        )
        return
    if not days:
        raise RequestError("no sizes were kept yet; run: nextmove audience")
    rows = [
        (f"{kind} {name}", _bars(sizes, until=now.date()), *(f"{count:,}" for count in _extent(sizes)))
        for (_, kind, name), sizes in days.items()
    ]
    print_table(f"The last {_DAYS} days", ("what", "size", "least", "most", "last"), rows)


def _extent(sizes: list[Size]) -> tuple[int, int, int]:
    """The least, the most and the last."""
    counts = [size.size for size in sizes]
    return min(counts), max(counts), counts[-1]


def _day(size: Size) -> dict[str, str | int]:
    return {"at": size.at.isoformat(), "size": size.size, "out_of": size.out_of}


def _bars(sizes: list[Size], *, until: date) -> str:
    """A bar a day; nothing where nobody counted."""
    by_date = {size.at.date(): size.size for size in sizes}
    most = max(by_date.values())
    days = (by_date.get(until - timedelta(days=ago)) for ago in reversed(range(_DAYS)))
    return "".join(" " if n is None else _BARS[round(n / most * (len(_BARS) - 1)) if most else 0] for n in days)
