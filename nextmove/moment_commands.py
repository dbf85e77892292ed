"""`nextmove moments ...`: what events have asked for, and what became of it."""

from contextlib import closing
from datetime import datetime
from typing import Annotated, Any, cast, get_args

import typer

from decisioning.errors import RequestError, UnknownMoment
from nextmove.console import next_command, out, print_json, print_table
from nextmove.options import AsJson, Dataset, now_utc, settings_of
from storage.ledger.moments import KeptMoment, MomentStore, State

moments_app = typer.Typer(help="Decisions that events ask for, and what became of them.", no_args_is_help=True)


@moments_app.command("list")
def list_moments(
    state: Annotated[str | None, typer.Option(help=f"Only in this state: {', '.join(get_args(State))}.")] = None,
    moment: Annotated[str | None, typer.Option(help="Only of this moment of the catalogue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """List moments, those that were due last first, with why they ended.

    Example: nextmove moments list --state dead
    """
    if state is not None and state not in get_args(State):
        raise RequestError(f"--state is '{state}', must be one of {', '.join(get_args(State))}", where="state")
    with closing(MomentStore(settings_of(dataset))) as store:
        found = store.newest(state=cast(State | None, state), moment=moment, limit=limit)
    if as_json:
        print_json([_document(each) for each in found])
        return
    if not found:
        out.print("there are none")
        return
    rows = [
        (each.moment_id, each.moment, each.state, each.reason or "-", _minute(each.due_at), str(each.attempts))
        for each in found
    ]
    print_table("Moments", ("id", "moment", "state", "reason", "due", "attempts"), rows)
    if any(each.state == "dead" for each in found):
        next_command("nextmove moments retry ID")


@moments_app.command("retry")
def retry(
    moment_id: Annotated[str, typer.Argument(help="The id of a moment that is dead.")],
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Let a dead letter be decided anew and delivered; a running service takes it up within seconds.

    Example: nextmove moments retry 384544ed65690a34c17f51b7803f6fe9
    """
    with closing(MomentStore(settings_of(dataset))) as store:
        found = store.find(moment_id)
        if found is None:
            raise UnknownMoment(f"no moment has the id '{moment_id[:256]}'; see: nextmove moments list --state dead")
        if not store.retry(moment_id, now=now_utc()):
            raise RequestError(f"moment {moment_id} is {found.state}, must be dead to be tried again")
        again = store.find(moment_id)
    if as_json:
        print_json(None if again is None else _document(again))
        return
    out.print(f"moment {moment_id} of '{found.moment}' waits to be decided")
    next_command("nextmove moments list --state dead")


def _document(kept: KeptMoment) -> dict[str, Any]:
    """Everything but whose it is and what is delivered."""
    return {
        "moment_id": kept.moment_id,
        "moment": kept.moment,
        "state": kept.state,
        "reason": kept.reason,
        "market": kept.market,
        "channel": kept.channel,
        "webhook": kept.target,
        "due_at": kept.due_at.isoformat(),
        "expires_at": kept.expires_at.isoformat() if kept.expires_at else None,
        "attempts": kept.attempts,
        "decision_id": kept.decision_id,
    }


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
