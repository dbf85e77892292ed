import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.keys import hash_of, parts_of
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove, refused

__all__ = ["nextmove"]


def test_a_key_is_made_shown_once_listed_and_revoked(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    made = nextmove("keys", "create", "web-shop", "--scope", "decide", "--scope", "ingest")
    token = made.out.strip()
    parts = parts_of(token)
    assert parts is not None
    assert "shown this once" in made.err
    assert "X-API-Key" in made.err
    assert token not in made.err
    listed = nextmove("keys", "list")
    assert f"{parts[0]}" in listed.out
    assert "web-shop" in listed.out
    assert "decide, ingest" in listed.out
    assert parts[1] not in listed.out + listed.err
    revoked = nextmove("keys", "revoke", parts[0])
    assert revoked.out.startswith("revoked since ")
    assert "nobody calls" in revoked.err
    with closing(LedgerReader(Settings(home=tmp_path / "state"))) as reader:
        assert [entry.what for entry in reader.audits()] == ["key.create", "key.revoke"]


def test_machines_get_json(nextmove: Callable[..., Said]) -> None:
    made = json.loads(nextmove("keys", "create", "page", "--publishable", "--json").out)
    key_id, secret = parts_of(made["token"]) or ("", "")
    assert (made["key_id"], made["scopes"], made["publishable"]) == (key_id, ["decide"], True)
    [listed] = json.loads(nextmove("keys", "list", "--json").out)
    assert listed == {name: value for name, value in made.items() if name != "token"}
    assert not {secret, hash_of(secret)} & set(map(str, listed.values()))
    assert json.loads(nextmove("keys", "revoke", key_id, "--json").out)["revoked_at"]


def test_the_whole_key_can_be_given_to_revoke_it(nextmove: Callable[..., Said]) -> None:
    token = nextmove("keys", "create", "a", "--scope", "admin").out.strip()
    said = nextmove("keys", "revoke", token)
    assert (said.code, token in said.out + said.err) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "a", "--scope", "decides"), "no scope 'decides', must be one of decide, ingest, agent"),
        (("create", "a"), "needs a scope"),
        (("create", "a", "--publishable", "--scope", "admin"), "publishable key cannot have the scope 'admin'"),
        (("revoke", "nothing"), "nextmove keys list"),
    ],
)
def test_what_cannot_be_is_one_clear_line(nextmove: Callable[..., Said], arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(nextmove("keys", *arguments))


def test_a_key_for_a_market_that_the_released_catalogue_has_not_is_refused(nextmove: Callable[..., Said]) -> None:
    assert nextmove("catalog", "release").code == 0
    assert "there is no market 'fr', must be one of ch, de" in refused(
        nextmove("keys", "create", "a", "--scope", "decide", "--market", "fr")
    )
    assert nextmove("keys", "create", "a", "--scope", "decide", "--market", "de").code == 0


def test_without_keys_the_list_says_who_may_call(nextmove: Callable[..., Said]) -> None:
    assert "its own machine only" in nextmove("keys", "list").out
