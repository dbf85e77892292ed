"""Blobs are what their hash says; pointers remember what they pointed to."""

import hashlib
import sqlite3
from datetime import timedelta

import pytest

from decisioning.errors import StoreError
from storage.blobs import BlobStore, Pointing
from storage.settings import Settings
from tests.storage.kept import NOW


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings)


def in_database(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(settings.ledger_path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_content_is_found_by_its_hash(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"model")

    assert sha256 == hashlib.sha256(b"model").hexdigest()
    assert blobs.put(b"model") == sha256
    assert blobs.get(sha256) == b"model"


def test_what_was_read_once_is_read_from_disk(blobs: BlobStore, settings: Settings) -> None:
    sha256 = blobs.put(b"model")
    blobs.get(sha256)
    in_database(settings, "DELETE FROM blobs")

    assert BlobStore(settings).get(sha256) == b"model"


def test_a_damaged_copy_on_disk_is_replaced(blobs: BlobStore, settings: Settings) -> None:
    sha256 = blobs.put(b"model")
    (settings.bundles_dir / sha256).write_bytes(b"mod")

    assert blobs.get(sha256) == b"model"
    assert (settings.bundles_dir / sha256).read_bytes() == b"model"
    assert [path.name for path in settings.bundles_dir.iterdir()] == [sha256]


def test_a_cache_that_cannot_be_written_does_not_matter(blobs: BlobStore, settings: Settings) -> None:
    sha256 = blobs.put(b"model")
    settings.bundles_dir.rmdir()

    assert blobs.get(sha256) == b"model"


def test_damage_in_the_database_is_not_served(blobs: BlobStore, settings: Settings) -> None:
    sha256 = blobs.put(b"model")
    in_database(settings, "UPDATE blobs SET content = x'00'")

    with pytest.raises(StoreError, match="is damaged"):
        blobs.get(sha256)


def test_what_was_never_published_is_named(blobs: BlobStore) -> None:
    with pytest.raises(StoreError, match="no bundle or catalogue has the hash abc"):
        blobs.get("abc")


def test_a_pointer_is_its_last_word_and_keeps_the_others(blobs: BlobStore, settings: Settings) -> None:
    first, second = blobs.put(b"1"), blobs.put(b"2")
    later = NOW + timedelta(seconds=1, microseconds=1)
    blobs.point("bundle/shop", first, now=NOW, reason="promoted")
    blobs.point("bundle/shop", second, now=later, reason="promoted")
    blobs.point("bundle/bank", first, now=NOW, reason="promoted")
    blobs.point("bundle/shop", first, now=later, reason="rolled back")

    assert BlobStore(settings).pointer("bundle/shop") == first
    assert blobs.history("bundle/shop") == [
        Pointing(first, NOW, "promoted"),
        Pointing(second, later, "promoted"),
        Pointing(first, later, "rolled back"),
    ]


def test_a_pointer_that_was_never_set_is_none(blobs: BlobStore) -> None:
    assert blobs.pointer("bundle/shop") is None
    assert blobs.history("bundle/shop") == []


def test_a_pointer_leads_somewhere(blobs: BlobStore) -> None:
    with pytest.raises(StoreError, match="'bundle/shop' cannot point to abc"):
        blobs.point("bundle/shop", "abc", now=NOW, reason="promoted")

    assert blobs.pointer("bundle/shop") is None
