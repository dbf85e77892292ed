"""The online store is opened so that its readers need not wait for its writers."""

import sqlite3
from contextlib import closing
from dataclasses import replace

from storage.feature_store import open_feature_store
from storage.settings import Settings


def test_online_features_are_read_while_an_ingestion_is_writing(settings: Settings) -> None:
    open_feature_store(settings)
    path = settings.feast_dir / "online.db"

    with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path, timeout=0)) as reader:
        writer.execute("CREATE TABLE features (value)")
        writer.commit()
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO features VALUES (1)")

        open_feature_store(settings)
        assert reader.execute("SELECT count(*) FROM features").fetchone() == (0,)


def test_an_online_store_that_is_in_use_is_opened_all_the_same(settings: Settings) -> None:
    settings.feast_dir.mkdir(parents=True)
    with closing(sqlite3.connect(settings.feast_dir / "online.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        assert open_feature_store(settings).project == "nextmove"


def test_redis_needs_no_file(settings: Settings) -> None:
    open_feature_store(replace(settings, online_store="redis"))

    assert list(settings.feast_dir.iterdir()) == []
