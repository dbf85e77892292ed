"""Keys: what is kept of them, what is not, and what ends them."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from decisioning.errors import RequestError
from storage.keys import SCOPES, KeyStore, hash_of, parts_of
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from tests.builders import NOW


@pytest.fixture
def store(settings: Settings) -> Iterator[KeyStore]:
    count = itertools.count(1)
    with closing(KeyStore(settings, random=lambda size: bytes([next(count)]) * size)) as opened:
        yield opened


def create(store: KeyStore, name: str = "shop", **fields: object) -> tuple[str, str]:
    key, token = store.create(name, **{"scopes": ["decide"], "now": NOW, "actor": "ann"} | fields)  # type: ignore[arg-type]
    return key.key_id, token


def test_a_token_carries_its_key_s_id_and_a_secret_of_32_bytes(store: KeyStore) -> None:
    key_id, token = create(store)
    assert (key_id, token) == ("01" * 8, f"nm_{'01' * 8}_{'AgIC' * 10}AgI")
    assert parts_of(token) == (key_id, "AgIC" * 10 + "AgI")


def test_two_keys_have_nothing_in_common(settings: Settings) -> None:
    with closing(KeyStore(settings)) as store:
        (one, first), (other, second) = create(store), create(store)
    assert one != other
    assert hash_of(first.split("_", 2)[2]) != hash_of(second.split("_", 2)[2])


def test_the_secret_is_in_no_file_of_the_state_directory(store: KeyStore, settings: Settings) -> None:
    key_id, token = create(store)
    secret = token.removeprefix(f"nm_{key_id}_").encode()
    kept = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert hash_of(secret.decode()).encode() in kept
    assert secret not in kept


def test_a_key_s_hash_is_not_shown_with_it(store: KeyStore) -> None:
    create(store)
    [key] = store.all()
    assert key.sha256 not in repr(key)


def test_what_a_key_may_is_kept(store: KeyStore) -> None:
    create(store, scopes=["ingest", "decide", "ingest"], market="de")
    create(store, "page", publishable=True, now=NOW + timedelta(seconds=1))
    first, second = store.all()
    assert (first.scopes, first.market, first.publishable) == (("decide", "ingest"), "de", False)
    assert (second.name, second.scopes, second.market, second.publishable) == ("page", ("decide",), None, True)
    assert first.created_at == NOW


def test_a_revoked_key_stays_revoked_since_the_first_time(store: KeyStore) -> None:
    key_id, _ = create(store)
    create(store, "other", now=NOW + timedelta(seconds=1))
    for later in (1, 2):
        assert store.revoke(key_id, now=NOW + timedelta(days=later), actor="bob").revoked_at == NOW + timedelta(days=1)
    assert [key.revoked_at is None for key in store.all()] == [False, True]


def test_who_made_and_revoked_a_key_is_audited_once_each_without_its_secret(
    store: KeyStore, settings: Settings
) -> None:
    key_id, token = create(store, market="de")
    for _ in range(2):
        store.revoke(key_id, now=NOW, actor="bob")
    with closing(LedgerReader(settings)) as reader:
        entries = list(reader.audits("simulated"))
    assert [(entry.actor, entry.what, entry.subject) for entry in entries] == [
        ("ann", "key.create", key_id),
        ("bob", "key.revoke", key_id),
    ]
    assert entries[0].reason == "shop: decide, market de"
    assert token.rpartition("_")[2] not in repr(entries)


def test_revoking_what_there_is_not_does_not_repeat_what_may_be_a_secret(store: KeyStore) -> None:
    with pytest.raises(RequestError, match="nextmove keys list") as raised:
        store.revoke("s3cret", now=NOW, actor="ann")
    assert "s3cret" not in raised.value.message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scopes": ["decide", "decid"]}, f"no scope 'decid', must be one of {', '.join(SCOPES)}"),
        ({"scopes": []}, f"needs a scope, one or more of {', '.join(SCOPES)}"),
        ({"scopes": ["decide", "ingest"], "publishable": True}, "publishable key cannot have the scope 'ingest'"),
        ({"name": ""}, "the name has 0 characters, must have 1 to 100"),
        ({"name": "a" * 101}, "the name has 101 characters"),
        ({"name": "a\nb"}, "all of them printable"),
        ({"name": " a"}, "none of them blank"),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_leaves_nothing(
    store: KeyStore, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        create(store, **fields)  # type: ignore[arg-type]
    assert store.all() == []


@pytest.mark.parametrize("text", ["", "nm", "nm_", "nm_a", "nm_a_", "nm__b", "NM_a_b", "xx_a_b", "a.b.c"])
def test_what_is_no_token_has_no_parts(text: str) -> None:
    assert parts_of(text) is None
