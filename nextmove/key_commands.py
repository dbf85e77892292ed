"""`nextmove keys ...`: who may call the service, and for what."""

from contextlib import closing
from datetime import datetime
from typing import Annotated, Any

import typer

from decisioning.errors import RequestError
from nextmove.console import err, next_command, out, print_json, print_table
from nextmove.options import AsJson, Dataset, now_utc, settings_of, user
from storage.keys import PUBLISHABLE_SCOPES, SCOPES, ApiKey, KeyStore, parts_of
from storage.settings import Settings

keys_app = typer.Typer(help="Who may call the service, and for what.", no_args_is_help=True)


@keys_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; the audit calls its holder so.")],
    scope: Annotated[list[str] | None, typer.Option(help=f"What it is for: {', '.join(SCOPES)}. Repeatable.")] = None,
    market: Annotated[str | None, typer.Option(help="The only market that it may ask for; all when absent.")] = None,
    publishable: Annotated[
        bool, typer.Option("--publishable", help="For pages, where all can read it: decides and reports outcomes.")
    ] = False,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once; running services take it within 5 s, and from the first on nobody calls without.

    Example: nextmove keys create web-shop --scope decide --scope ingest --market de
    """
    settings = settings_of(dataset)
    if market is not None:
        _refuse_unknown_market(settings, market)
    scopes = scope or list(PUBLISHABLE_SCOPES if publishable else ())
    with closing(KeyStore(settings)) as store:
        key, token = store.create(
            name, scopes=scopes, market=market, publishable=publishable, now=now_utc(), actor=user()
        )
    if as_json:
        print_json({"token": token, **_document(key)})
        return
    out.print(token)
    err.print(
        f"key {key.key_id} of '{key.name}': {_rights(key)}. It is shown this once: keep it where secrets are kept."
    )
    err.print("callers send it as X-API-Key, or as Authorization: Bearer")
    next_command("nextmove keys list")


@keys_app.command("list")
def list_keys(dataset: Dataset = None, as_json: AsJson = False) -> None:
    """List every key that ever was, with what it may and whether it is revoked; no secret is kept to show.

    Example: nextmove keys list
    """
    with closing(KeyStore(settings_of(dataset))) as store:
        found = store.all()
    if as_json:
        print_json([_document(key) for key in found])
    elif not found:
        out.print("there are no keys: the service answers calls from its own machine only")
        next_command("nextmove keys create NAME --scope decide")
    else:
        rows = [
            (key.key_id, key.name, _rights(key), _day(key.created_at), _day(key.revoked_at) if key.revoked_at else "-")
            for key in found
        ]
        print_table("Keys", ("key", "name", "may", "created", "revoked"), rows)


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id; the whole key does too.")],
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good; running services refuse it within 5 s.

    Example: nextmove keys revoke 5f0c2a91d3e84b67
    """
    parts = parts_of(key_id)
    with closing(KeyStore(settings_of(dataset))) as store:
        key = store.revoke(parts[0] if parts else key_id, now=now_utc(), actor=user())
        live = [each for each in store.all() if each.revoked_at is None]
    if as_json:
        print_json(_document(key))
        return
    assert key.revoked_at is not None
    out.print(f"revoked since {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC: key {key.key_id} of '{key.name}'")
    if not live:
        err.print("it was the last: with keys nobody calls until there is another")
        next_command("nextmove keys create NAME --scope decide")


def _refuse_unknown_market(settings: Settings, market: str) -> None:
    """A misspelt one would make a key that opens nothing; without a released catalogue nobody can tell."""
    from nextmove.steps import last_released

    release = last_released(settings)
    if release is not None and market not in release.markets:
        raise RequestError(
            f"there is no market '{market}', must be one of {', '.join(sorted(release.markets))}", where="market"
        )


def _rights(key: ApiKey) -> str:
    market = f" in market {key.market}" if key.market is not None else ""
    return f"{', '.join(key.scopes)}{market}{' (publishable)' if key.publishable else ''}"


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": key.scopes,
        "market": key.market,
        "publishable": key.publishable,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
