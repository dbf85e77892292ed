"""Customers of one's own into Feast and consents into ledger and hot state: what is new or changed, once."""

import asyncio
import json
import os
import sqlite3
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from decisioning.errors import DataError, SetupError
from decisioning.profile import ConsentChange
from serving.adapters.feast_features import FeastFeatures
from storage.consents import record_consents
from storage.feature_store import open_feature_store
from storage.id_digests import id_digests
from storage.known_customers import KnownCustomers
from storage.ledger.database import open_ledger
from storage.privacy.erasure import GRACE, advance
from storage.privacy.requests import ask_for_erasure
from tests.storage.test_database import psql
from tests.training.own_data import NOW, Shop
from training import ingest_customers as module
from training.features import declared_features, historical_features, offline_path
from training.ingest_customers import Stage

DAY = timedelta(days=1)
ANN, BOB = "c-1,31,Bern,yes", "c-2,45,Basel,no"
CONSENT = {"column": "email_ok", "purpose": "marketing", "channel": "email", "source": "crm", "since": "2025-02-01"}
STAGES: tuple[Stage, ...] = ("offline", "online", "consents", "noted")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.mapping(consents=[CONSENT])
    shop.customers(ANN, BOB)
    return shop


def online(shop: Shop, customer_id: str) -> dict[str, Any] | None:
    stored = asyncio.run(FeastFeatures(open_feature_store(shop.settings), "shop").read(customer_id))
    return None if stored is None else dict(stored.values)


def offline(shop: Shop) -> pd.DataFrame:
    return pq.read_table(offline_path(shop.settings, "shop", "customers")).to_pandas()


def parts(shop: Shop) -> list[Path]:
    """What was read and is not in the offline table yet."""
    return list(offline_path(shop.settings, "shop", "customers").with_suffix(".parts").iterdir())


def as_of(shop: Shop, customer_id: str, *times: datetime) -> list[Any]:
    rows = [{"row_id": str(n), "customer_id": customer_id, "event_timestamp": at} for n, at in enumerate(times)]
    return historical_features(shop.settings, "shop", pd.DataFrame(rows))["age"].tolist()


def test_customers_are_in_both_stores_and_their_consents_in_the_ledger(shop: Shop) -> None:
    report = shop.ingest()
    assert (report.rows, report.new, report.consents, report.customers, report.rejected) == (2, 2, 2, 2, 0)
    assert online(shop, "c-1") == {"age": 31.0, "city": "Bern"}
    assert online(shop, "c-3") is None
    assert offline(shop)["customer_id"].tolist() == ["c-1", "c-2"]
    assert shop.consents() == {("c-1", "email"): True, ("c-2", "email"): False}


def test_kinds_are_found_out_and_rules_may_name_the_features(shop: Shop) -> None:
    shop.customers("c-1,31,01234,yes", "c-2,,Basel,")
    report = shop.ingest()
    assert report.found
    assert report.features == {"age": "number", "city": "text"}
    assert declared_features("shop", shop.settings).customer == report.features


def test_the_same_file_again_changes_nothing(shop: Shop) -> None:
    shop.ingest()
    before = offline(shop)
    report = shop.ingest(now=NOW + DAY)
    assert (report.new, report.changed, report.unchanged, report.consents, report.found) == (0, 0, 2, 0, False)
    assert offline(shop).equals(before)


def test_a_later_run_takes_what_is_new_or_changed(shop: Shop) -> None:
    shop.ingest()
    shop.customers("c-1,32,Bern,yes", BOB, "c-3,20,Chur,yes")
    report = shop.ingest(now=NOW + DAY)
    assert (report.new, report.changed, report.unchanged, report.customers) == (1, 1, 1, 3)
    assert online(shop, "c-1") == {"age": 32.0, "city": "Bern"}
    assert len(offline(shop)) == 4


def test_what_changed_later_is_not_known_earlier(shop: Shop) -> None:
    shop.ingest()
    shop.customers("c-1,32,Bern,yes", BOB)
    shop.ingest(now=NOW + DAY)
    before = datetime(2024, 12, 31, tzinfo=UTC)
    known = as_of(shop, "c-1", before, NOW, NOW + DAY)
    assert pd.isna(known[0])
    assert known[1:] == [31.0, 32.0]


def test_of_several_versions_with_a_time_each_is_kept_and_the_newest_is_served(shop: Shop) -> None:
    shop.mapping(since=None, time="at")
    shop.customers("c-1,31,2026-01-05", "c-1,30,2025-01-05", header="client,age,at")
    assert shop.ingest().new == 2
    assert online(shop, "c-1") == {"age": 31.0}
    assert as_of(shop, "c-1", datetime(2025, 6, 1, tzinfo=UTC), NOW) == [30.0, 31.0]
    shop.customers("c-1,29,2024-01-05", header="client,age,at")
    assert shop.ingest(now=NOW + DAY).changed == 1
    assert online(shop, "c-1") == {"age": 31.0}


def test_a_version_that_is_corrected_counts_as_corrected(shop: Shop) -> None:
    shop.mapping(since=None, time="at")
    shop.customers("c-1,31,2026-01-05", header="client,age,at")
    shop.ingest()
    shop.customers("c-1,41,2026-01-05", header="client,age,at")
    shop.ingest(now=NOW + DAY)
    assert as_of(shop, "c-1", NOW) == [41.0]
    assert online(shop, "c-1") == {"age": 41.0}


def test_a_customer_in_two_rows_that_differ_is_a_mistake_and_one_said_twice_is_not(shop: Shop) -> None:
    shop.customers(ANN, "c-1,99,Bern,yes", BOB, BOB)
    report = shop.ingest()
    assert report.mistakes == [
        "customers.csv row 3: this customer stands in an earlier row with other values; if rows are of different"
        " times, say `time` in the mapping"
    ]
    assert (report.new, report.repeated) == (2, 1)


def test_two_rows_that_differ_are_a_mistake_in_different_parts_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    shop.customers(ANN, BOB, "c-1,99,Bern,yes")
    assert shop.ingest().rejected == 1
    assert online(shop, "c-1") == {"age": 31.0, "city": "Bern"}


def test_mistakes_are_named_by_row_and_column_and_their_rows_kept(shop: Shop) -> None:
    shop.mapping(features={"age": {"type": "number"}}, consents=[CONSENT])
    shop.customers("c-1,old,Bern,yes", "c-2,45,Basel,perhaps", ",20,Chur,yes", "c-4,20", "c-5,1,Bern,no")
    report = shop.ingest()
    assert report.mistakes == [
        "customers.csv row 2, column age: is 'old', must be a number like 12.50",
        "customers.csv row 3, column email_ok: is 'perhaps', must be one of yes, true, 1, no, false, 0, or empty",
        "customers.csv row 4, column client: is empty, must say whose row this is",
        "customers.csv row 5: has 2 values, the header has 4 columns",
    ]
    assert report.new == 1
    kept = [json.loads(line) for line in Path(report.reject_file or "").read_text().splitlines()]
    assert [row["_row"] for row in kept] == [2, 3, 4, 5]


def test_a_value_of_another_kind_than_found_before_is_a_mistake(shop: Shop) -> None:
    shop.ingest()
    shop.customers("c-1,unknown,Bern,yes", BOB)
    assert shop.ingest(now=NOW + DAY).mistakes == [
        "customers.csv row 2, column age: is 'unknown', must be a number like 12.50"
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_dies_is_simply_run_again(shop: Shop, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    shop.customers(ANN, BOB, "c-3,20,Chur,yes")
    deaths = [stage]

    def die(reached: Stage) -> None:
        if reached in deaths:
            deaths.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.ingest(reached=die)
    report = shop.ingest()
    assert report.customers == 3
    assert report.unchanged == (1 if stage == "noted" else 0)
    assert sorted(offline(shop)["customer_id"]) == ["c-1", "c-2", "c-3"]
    assert online(shop, "c-3") == {"age": 20.0, "city": "Chur"}
    assert shop.consents() == {("c-1", "email"): True, ("c-2", "email"): False, ("c-3", "email"): True}


def test_a_death_between_the_table_and_its_parts_repeats_no_row(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.parent.suffix == ".parts":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            shop.ingest()
    assert parts(shop)
    shop.ingest(now=NOW + DAY)
    assert len(offline(shop)) == 2
    assert not parts(shop)


def test_what_a_run_wrote_and_did_not_come_to_note_is_as_if_it_had_not_been(shop: Shop) -> None:
    def die(reached: Stage) -> None:
        if reached == "offline":
            raise KeyboardInterrupt

    shop.ingest()
    shop.customers("c-1,99,Bern,yes", BOB)
    with pytest.raises(KeyboardInterrupt):
        shop.ingest(reached=die)
    shop.customers(ANN, BOB)
    assert shop.ingest().unchanged == 2
    assert offline(shop)["age"].tolist() == [31.0, 45.0]


def test_two_runs_at_once_are_refused(shop: Shop) -> None:
    with KnownCustomers(shop.settings, "shop"), pytest.raises(SetupError, match="another run"):
        shop.ingest()


def test_a_withdrawal_stands_when_the_table_still_says_yes(shop: Shop) -> None:
    shop.ingest()
    hot_state = shop.hot_state()
    no = ConsentChange(
        customer_id="c-1", purpose="marketing", channel="email", granted=False, at=NOW + DAY, source="service"
    )
    record_consents(shop.settings, hot_state, [no])
    hot_state.close()
    shop.customers("c-1,32,Bern,yes", BOB)
    assert shop.ingest(now=NOW + 2 * DAY).consents == 0
    assert shop.consents()["c-1", "email"] is False


def test_a_word_that_the_table_changes_is_said_when_it_is_found(shop: Shop) -> None:
    shop.ingest()
    shop.customers("c-1,31,Bern,no", BOB)
    assert shop.ingest(now=NOW + DAY).consents == 1
    assert shop.consents()["c-1", "email"] is False


def erase(shop: Shop, customer_id: str) -> None:
    engine = open_ledger(shop.settings)
    digests = id_digests(shop.settings)
    request = ask_for_erasure(engine, "shop", [customer_id], digests, actor="admin", now=NOW)
    for at in (NOW, NOW + GRACE):
        request = advance(shop.settings, engine, request, now=at)
    engine.dispose()


def files_that_say(shop: Shop, word: str) -> list[str]:
    found = [path for path in shop.settings.home.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]
    return [path.name for path in found]


@pytest.mark.parametrize("dies", [False, True])
def test_a_customer_who_is_erased_is_gone_from_all_that_was_taken_in_and_nobody_else_is(shop: Shop, dies: bool) -> None:
    def die(reached: Stage) -> None:
        if dies and reached == "noted":
            raise KeyboardInterrupt

    shop.customers("somebody-1,31,Bern,yes", BOB)
    with suppress(KeyboardInterrupt):
        shop.ingest(reached=die)
    assert len(parts(shop)) == dies
    assert files_that_say(shop, "somebody-1")
    erase(shop, "somebody-1")
    assert files_that_say(shop, "somebody-1") == []
    report = shop.ingest(now=NOW + DAY)
    assert (report.erased, report.unchanged, report.customers) == (1, 1, 1)
    assert offline(shop)["customer_id"].tolist() == ["c-2"]
    assert online(shop, "c-2") == {"age": 45.0, "city": "Basel"}


def test_of_customers_who_were_erased_nothing_is_taken(shop: Shop) -> None:
    erase(shop, "c-1")
    report = shop.ingest()
    assert (report.erased, report.new) == (1, 1)
    assert online(shop, "c-1") is None
    assert offline(shop)["customer_id"].tolist() == ["c-2"]
    assert ("c-1", "email") not in shop.consents()


def test_where_people_are_pseudonyms_no_id_is_kept(shop: Shop) -> None:
    shop.settings = replace(shop.settings, pseudonym_secret="a secret of sixteen signs")
    shop.mapping(consents=[CONSENT], decisions={})
    shop.decisions("d-1,c-1,2026-01-02T10:00:00,shoes,0.5,20")
    assert shop.ingest().new == 2
    name = shop.settings.pseudonyms.of("c-1")
    assert name != "c-1"
    assert online(shop, name) == {"age": 31.0, "city": "Bern"}
    assert online(shop, "c-1") is None
    assert shop.consents()[name, "email"]
    assert name in offline(shop)["customer_id"].tolist()
    assert shop.domain().log()["customer_id"].tolist() == [name]
    assert shop.ingest(now=NOW + DAY).unchanged == 2


def test_a_customer_who_is_forgotten_is_new(shop: Shop) -> None:
    shop.mapping(since=None, time="at")
    shop.customers("c-1,31,2026-01-05", "c-1,30,2025-01-05", "c-2,5,2025-01-05", header="client,age,at")
    shop.ingest()
    with KnownCustomers(shop.settings, "shop") as known:
        known.forget("c-1")
    report = shop.ingest()
    assert (report.new, report.unchanged) == (2, 1)


def test_rows_that_were_not_updated_are_not_looked_at(shop: Shop) -> None:
    shop.mapping(updated_at="changed")
    header = "client,age,changed"
    shop.customers("c-1,31,2026-03-01T00:00:00", "c-2,45,2026-02-01T00:00:00", header=header)
    shop.ingest()
    shop.customers(
        "c-1,31,2026-03-01T00:00:00", "c-2,99,2026-02-01T00:00:00", "c-3,1,2026-03-01T01:00:00", header=header
    )
    report = shop.ingest(now=NOW + DAY)
    assert (report.older, report.unchanged, report.new) == (1, 1, 1)


def test_a_row_that_could_not_be_used_is_looked_at_again(shop: Shop) -> None:
    shop.mapping(updated_at="changed", features={"age": {"type": "number"}})
    header = "client,age,changed"
    shop.customers("c-1,31,2026-03-01T00:00:00", "c-2,x,2026-02-01T00:00:00", header=header)
    assert shop.ingest().rejected == 1
    shop.customers("c-1,31,2026-03-01T00:00:00", "c-2,45,2026-02-01T00:00:00", header=header)
    assert shop.ingest(now=NOW + DAY).new == 1


def test_a_new_feature_leaves_what_was_known_of_the_others(shop: Shop) -> None:
    shop.mapping(features={"age": "age"})
    shop.ingest()
    shop.mapping(features={"age": "age", "city": "city"})
    assert shop.ingest(now=NOW + DAY).changed == 2
    assert offline(shop)["age"].tolist() == [31.0, 45.0, 31.0, 45.0]
    assert offline(shop)["city"].tolist() == [None, None, "Bern", "Basel"]
    assert online(shop, "c-1") == {"age": 31.0, "city": "Bern"}


def test_lists_and_truths_come_out_as_they_went_in(shop: Shop) -> None:
    shop.mapping(features={"tags": {"type": "texts", "separator": "|"}, "vip": {"type": "truth"}})
    shop.customers("c-1,a|b,yes", "c-2,,no", header="client,tags,vip")
    shop.ingest()
    assert online(shop, "c-1") == {"tags": ("a", "b"), "vip": True}
    assert online(shop, "c-2") == {"tags": (), "vip": False}
    assert offline(shop)["tags"].map(list).tolist() == [["a", "b"], []]


def test_jsonl_and_parquet_are_read_too(shop: Shop) -> None:
    rows = [{"client": "c-1", "age": 31, "vip": True}, {"client": "c-2", "city": "Basel"}]
    (shop.folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shop.mapping()
    report = shop.ingest(origin=str(shop.folder / "a.jsonl"))
    assert report.features == {"age": "number", "vip": "truth", "city": "text"}
    pd.DataFrame({"client": ["c-3"], "age": [5.0], "vip": [False], "city": ["Chur"]}).to_parquet(
        shop.folder / "b.parquet"
    )
    assert shop.ingest(origin=str(shop.folder / "b.parquet")).new == 1
    assert online(shop, "c-3") == {"age": 5.0, "vip": False, "city": "Chur"}


def database(shop: Shop, *rows: tuple[str, int, str]) -> str:
    path = shop.folder / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS client (id TEXT PRIMARY KEY, age INTEGER, changed TEXT)")
        connection.executemany("INSERT OR REPLACE INTO client VALUES (?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def test_a_database_is_asked_and_later_only_for_what_changed(shop: Shop) -> None:
    address = database(shop, ("c-1", 31, "2026-01-01T00:00:00"), ("c-2", 45, "2026-02-01T00:00:00"))
    query = "SELECT id AS client, age, changed FROM client WHERE changed >= strftime('%Y-%m-%dT%H:%M:%S', :since)"
    shop.mapping(query=query, updated_at="changed", **{"from": address})
    assert shop.ingest().new == 2
    database(shop, ("c-3", 20, "2026-02-02T00:00:00"))
    report = shop.ingest(now=NOW + DAY)
    assert (report.rows, report.new, report.unchanged) == (2, 1, 1)
    assert online(shop, "c-3") == {"age": 20.0}


def test_a_database_that_does_not_answer_is_named_without_its_password(shop: Shop) -> None:
    address = "sqlite://reader:hunter2@/nowhere/none.db"
    shop.mapping(query="SELECT 1 AS client")
    with pytest.raises((DataError, SetupError)) as refused:
        shop.ingest(origin=address)
    assert "hunter2" not in str(refused.value)


def test_a_driver_that_is_missing_is_named_with_the_remedy(shop: Shop) -> None:
    shop.mapping(query="SELECT 1 AS client")
    with pytest.raises(SetupError, match="is not installed") as refused:
        shop.ingest(origin="nosuch://reader:hunter2@crm/clients")
    assert "hunter2" not in str(refused.value)


def test_a_colon_in_a_query_is_no_parameter(shop: Shop) -> None:
    address = database(shop, ("c-1", 31, "2026-01-01"))
    shop.mapping(query="SELECT id AS client, age, 'at 10:30' AS note FROM client WHERE changed <> ':other'")
    assert shop.ingest(origin=address).new == 1
    assert online(shop, "c-1") == {"age": 31.0, "note": "at 10:30"}


def test_a_query_that_lacks_a_column_says_which(shop: Shop) -> None:
    address = database(shop, ("c-1", 31, "2026-01-01"))
    shop.mapping(query="SELECT age FROM client")
    with pytest.raises(DataError, match="lacks client, which the mapping names; its columns are age"):
        shop.ingest(origin=address)


@pytest.mark.services
def test_postgresql_is_asked_and_later_only_for_what_changed(shop: Shop) -> None:
    name = f"nextmove_customers_{os.getpid()}"
    assert psql("postgres", f"CREATE DATABASE {name}").stderr == ""
    try:
        said = psql(
            name,
            "CREATE TABLE client (id text, spend numeric(9,2), vip boolean, tags text[], changed timestamptz);"
            "INSERT INTO client VALUES ('c-1', 12.50, true, '{a,b}', '2026-01-01');"
            "INSERT INTO client VALUES ('c-2', null, false, null, '2026-02-01')",
        )
        assert said.stderr == ""
        query = "SELECT id, spend, vip, tags, changed::timestamptz AS changed FROM client WHERE changed >= :since"
        where = f"{os.environ.get('PGUSER', 'postgres')}:secret-word@{os.environ.get('PGHOST', 'localhost')}"
        shop.mapping(id="id", query=query, updated_at="changed", **{"from": f"postgresql+psycopg://{where}/{name}"})
        report = shop.ingest()
        assert report.features == {"spend": "number", "vip": "truth", "tags": "texts"}
        assert "secret-word" not in report.source
        assert online(shop, "c-1") == {"spend": 12.5, "vip": True, "tags": ("a", "b")}
        assert psql(name, "INSERT INTO client VALUES ('c-3', 1, true, '{}', '2026-03-01')").stderr == ""
        again = shop.ingest(now=NOW + DAY)
        assert (again.rows, again.new, again.unchanged) == (2, 1, 1)
        with pytest.raises(DataError, match="cannot be read") as refused:
            shop.ingest(origin=f"postgresql+psycopg://{where}/{name}_not")
        assert "secret-word" not in str(refused.value)
    finally:
        psql("postgres", f"DROP DATABASE {name} WITH (FORCE)")
