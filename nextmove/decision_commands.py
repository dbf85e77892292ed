"""`nextmove explain` and `nextmove replay`: why a decision is as it is, and what else it could have been.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from decisioning.errors import CatalogError, RequestError, SetupError, StoreError
from nextmove.console import out, print_json
from nextmove.options import AsJson, Dataset, Ledger, now_utc, settings_of, since_when
from storage.settings import Settings


def explain(
    decision_id: Annotated[str, typer.Argument(help="Id of a decision in the ledger.")],
    dataset: Dataset = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Why a customer got what they got: candidates, formulas, drops, and what losers lacked.

    Example: nextmove explain 01KANTX7M0D4Q3V3Z0V6S2D6QJ
    """
    from nextmove.explain import as_document, print_explanation
    from nextmove.past_decisions import past_decisions

    with past_decisions(settings_of(dataset), ledger) as past:
        record = past.find(decision_id)
        if as_json:
            print_json(as_document(record))
            return
        try:
            catalog = past.catalog_of(record)
        except (StoreError, CatalogError, RequestError):
            catalog = None  # it only gives names
        print_explanation(record, catalog)


def replay(
    decision_id: Annotated[str | None, typer.Argument(help="Id of a decision in the ledger.")] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Ask its model again, too; scores must agree to 1e-6.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="What if: decisions since then, 30m, 12h, 1d or 2w ago, or a date.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="What if: another catalogue, a folder of files or a released version.")
    ] = None,
    market: Annotated[str | None, typer.Option(help="What if: decisions of this market only.")] = None,
    seed: Annotated[int, typer.Option(help="What if: of the bootstrap and the reward model.")] = 1,
    dataset: Dataset = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Compute a decision again, bit for bit; or all of a time under another catalogue, as nextmove evaluate does.

    Example: nextmove replay 01KANTX7M0D4Q3V3Z0V6S2D6QJ --rescore

    Example: nextmove replay --since 1d --catalog catalog/simulated
    """
    settings = settings_of(dataset)
    if decision_id is not None:
        if since is not None or catalog is not None or market is not None:
            raise SetupError("a decision's id and --since, --catalog or --market are both given; give one or the other")
        _replay_one(settings, ledger, decision_id, rescore=rescore, as_json=as_json)
    elif since is None or catalog is None or rescore:
        raise SetupError("give a decision's id (with --rescore or without), or both --since and --catalog")
    else:
        from nextmove.what_if import run_what_if

        begin = since_when(since, now=now_utc())
        run_what_if(settings, ledger=ledger, since=begin, catalog=catalog, market=market, seed=seed, as_json=as_json)


def _replay_one(settings: Settings, ledger: Path | None, decision_id: str, *, rescore: bool, as_json: bool) -> None:
    from nextmove.past_decisions import RESCORE_TOLERANCE, past_decisions

    with past_decisions(settings, ledger) as past:
        record = past.find(decision_id)
        found = past.replay(record)
        scores = past.rescore(record) if rescore else []
    agree = all(score.agrees for score in scores)
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(found) | {"verdict": found.verdict}
        if rescore:
            document["rescored"] = {"agrees": agree, "scores": [score._asdict() for score in scores]}
        print_json(document)
    else:
        out.print(f"{decision_id}: {found.verdict}")
        for difference in found.differences:
            out.print(f"  {difference.path}: was {difference.was!r}, is {difference.now!r}")
        if rescore:
            wide = max(abs(score.logged - score.now) for score in scores)
            verdict = "agree" if agree else "do NOT agree"
            out.print(f"{len(scores)} scores {verdict}: at most {wide:.2g} apart, {RESCORE_TOLERANCE:g} is allowed")
    if not (found.identical and agree):
        sys.exit(1)
