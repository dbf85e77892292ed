"""A file of events into both stores: once, whatever happens on the way."""

import asyncio
import gzip
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decisioning.currencies import Currencies
from decisioning.errors import DataError
from decisioning.event_content import EventFeature, Source
from decisioning.event_features import EventFeatures
from decisioning.events import EventRecord, Happened
from decisioning.profile import HotProfile, Subject
from decisioning.vocabulary import Vocabulary
from nextmove.ingest_events import SHOWN, IngestedEvents, Stage, ingest_events
from storage.event_batches import SCAN_EVERY
from storage.event_mapping import EventMapping
from storage.hot_state.rebuild import rebuild
from storage.hot_state.state_replay import open_states
from storage.hot_state.states import Replay
from storage.ledger.feed_counts import FeedCounts
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.hot_stores import Store, settings_for
from tests.storage.kept import NOW, event
from tests.storage.processes import others
from tests.storage.released import release

MAPPING: dict[str, Any] = {
    "event": {"column": "kind"}, "time": "at", "customer": "who", "message_id": ["id"],
    "properties": {"product_id": "sku", "value": {"column": "paid", "type": "number"}},
    "skip": [{"column": "kind", "equals": "test"}],
}  # fmt: skip
HEADER = "id,kind,at,who,sku,paid\n"
STAGES: tuple[Stage, ...] = ("ledger", "hot state", "noted")


def line(number: int, **overrides: Any) -> str:
    row: dict[str, Any] = {
        "id": f"o-{number}", "kind": "purchase", "at": f"2026-01-05T10:{number % 60:02}:00", "who": f"c-{number % 7}",
        "sku": f"p-{number % 11}", "paid": 2.5,
    }  # fmt: skip
    return ",".join(str(value) for value in {**row, **overrides}.values()) + "\n"


def written(path: Path, *lines: str) -> Path:
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def take(
    settings: Settings,
    path: Path,
    *,
    sources: tuple[Source, ...] = (),
    currencies: Currencies | None = None,
    **given: Any,
) -> IngestedEvents:
    reached: Callable[[Stage], None] = given.pop("reached", lambda _: None)
    mapping = msgspec.convert({**MAPPING, **given}, EventMapping)
    return ingest_events(
        settings, path, mapping, source="till", vocabulary=Vocabulary(sources, currencies), now=NOW, reached=reached
    )


def kept(settings: Settings) -> list[EventRecord]:
    with closing(LedgerReader(settings)) as reader:
        return list(reader.events(settings.domain))


def hot(settings: Settings, *customers: str) -> list[HotProfile]:
    store = Store(settings)
    found = [store.read(Subject(customer)) for customer in customers]
    store.close()
    return [msgspec.structs.replace(profile, version=0) for profile in found]


def test_what_a_file_tells_is_in_the_ledger_and_the_next_decision_knows_it(chosen: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", *(line(number) for number in range(20)), line(20, kind="test"))
    report = take(chosen, path)
    assert (report.accepted, report.rows, report.left_out, report.rejected) == (20, 21, 1, 0)
    assert [each.event_id for each in kept(chosen)] == [f"till/o-{number}" for number in range(20)]
    [profile] = hot(chosen, "c-3")
    assert [bought.product for bought in profile.purchases] == ["p-10", "p-3", "p-6"]
    assert [(done.name, done.at) for done in profile.events] == [("purchase", datetime(2026, 1, 5, 10, 17, tzinfo=UTC))]


def test_the_same_file_again_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", *(line(number) for number in range(20)))
    take(settings, path)
    stages: list[Stage] = []
    again = take(settings, path.rename(tmp_path / "other.csv"), reached=stages.append)
    assert (again.rows_before, again.rows, again.accepted, again.duplicates) == (20, 0, 0, 0)
    assert "ledger" not in stages
    assert len(kept(settings)) == 20


def test_without_a_note_of_the_first_run_all_are_known_and_told_to_hot_state_again(
    chosen: Settings, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", *(line(number) for number in range(20)))
    take(chosen, path)
    before, first = kept(chosen), hot(chosen, "c-3")
    shutil.rmtree(chosen.home / "ingested")
    again = take(chosen, path)
    assert (again.accepted, again.duplicates, again.rejected) == (0, 20, 0)
    assert (kept(chosen), hot(chosen, "c-3")) == (before, first)


def test_of_a_file_that_has_grown_only_the_new_rows_are_taken(settings: Settings, tmp_path: Path) -> None:
    lines = [line(number) for number in range(1_500)]
    take(settings, written(tmp_path / "a.csv", *lines[:1_200]))
    grown = take(settings, written(tmp_path / "a.csv", *lines))
    assert (grown.rows_before, grown.rows, grown.accepted, grown.duplicates) == (1_200, 300, 300, 0)
    once_more = take(settings, written(tmp_path / "a.csv", *lines, line(1_500)))
    assert (once_more.rows_before, once_more.accepted) == (1_500, 1)


def test_a_note_of_what_the_ledger_no_longer_has_is_not_believed(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", line(1), line(2))
    take(settings, path)
    for left in settings.home.glob("ledger.db*"):
        left.unlink()
    assert take(settings, path).accepted == 2


def test_another_mapping_reads_the_file_anew_and_what_was_kept_stands(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", line(1), line(2))
    take(settings, path)
    before = kept(settings)
    changed = take(settings, path, properties={"branch": "sku"})
    assert (changed.rows_before, changed.accepted, changed.mistakes_found) == (0, 0, 2)
    assert changed.all_bad
    assert changed.mistakes[0].startswith("a.csv row 2: the event 'till/o-1' was kept before with other content")
    assert kept(settings) == before


@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_goes_on_and_nothing_is_lost_or_counted_twice(
    settings: Settings, tmp_path: Path, stage: Stage, part: int
) -> None:
    path = written(tmp_path / "a.csv", *(line(number) for number in range(3 * SCAN_EVERY + 100)))
    seen: list[Stage] = []

    def die(reached: Stage) -> None:
        seen.append(reached)
        if seen.count(stage) == part:
            os.kill(os.getpid(), signal.SIGKILL)

    with others(lambda _say: take(settings, path, reached=die)) as [(process, lines)]:
        assert lines.read() == ""
        process.join()
        assert process.exitcode == -signal.SIGKILL
    safe = part if stage == "noted" else part - 1
    after = take(settings, path)
    assert after.rows_before == safe * SCAN_EVERY
    assert after.duplicates == (part - safe) * SCAN_EVERY
    ids = [each.event_id for each in kept(settings)]
    assert ids == [f"till/o-{number}" for number in range(3 * SCAN_EVERY + 100)]
    customers = [f"c-{number}" for number in range(7)]
    found = hot(settings, *customers)
    rebuild(settings, now=NOW)
    assert found == hot(settings, *customers)
    assert len(found[0].purchases) == 11


def test_others_can_write_between_all_stages(settings: Settings, tmp_path: Path) -> None:
    ledger, store = Ledger(settings), Store(settings)
    told: list[str] = []

    def write(stage: Stage) -> None:
        told.append(f"web/{len(told)}")
        assert asyncio.run(ledger.append_events([(event(told[-1]), "d")])) == ["accepted"]
        store.note(Happened("c-1", f"{stage} {len(told)}", NOW))

    take(settings, written(tmp_path / "a.csv", *(line(number) for number in range(2_500))), reached=write)
    ledger.close()
    store.close()
    assert len(told) == 9
    assert len(kept(settings)) == 2_509


def test_mistakes_are_named_counted_and_written_down_and_the_other_rows_are_taken(
    settings: Settings, tmp_path: Path
) -> None:
    bad = [line(number, at="31/02/2026") for number in range(25)]
    path = written(tmp_path / "orders.csv", line(100), *bad, line(101, who=""), line(102))
    report = take(settings, path)
    assert (report.accepted, report.rejected, report.mistakes_found, len(report.mistakes)) == (2, 26, 26, SHOWN)
    assert report.mistakes[0] == (
        "orders.csv row 3, column at: is '31/02/2026', must be a time like 2026-11-21T18:00:00"
    )
    assert not report.all_bad
    assert report.reject_file is not None
    rejects = [json.loads(each) for each in Path(report.reject_file).read_text().splitlines()]
    assert len(rejects) == 26
    assert (rejects[-1]["_row"], rejects[-1]["_column"], rejects[-1]["id"]) == (28, "who", "o-101")
    assert Path(report.reject_file).parent == settings.home / "ingested"


def test_rows_that_were_corrected_in_the_reject_file_can_be_taken_from_there(
    settings: Settings, tmp_path: Path
) -> None:
    path = written(tmp_path / "orders.csv", line(1), line(2, at="soon"))
    rejects = Path(str(take(settings, path).reject_file))
    corrected = tmp_path / "corrected.jsonl"
    corrected.write_text(rejects.read_text().replace("soon", "2026-01-06"))
    report = take(settings, corrected)
    assert (report.accepted, report.rejected) == (1, 0)
    assert [each.event_id for each in kept(settings)] == ["till/o-1", "till/o-2"]


def test_the_reject_file_holds_each_row_once_though_a_run_was_killed(settings: Settings, tmp_path: Path) -> None:
    lines = [line(number, paid="x" if number % 500 == 0 else 1) for number in range(2_500)]
    path = written(tmp_path / "a.csv", *lines)

    class Stopped(Exception):
        pass

    stages: list[Stage] = []

    def stop(stage: Stage) -> None:
        stages.append(stage)
        if stages.count("hot state") == 2:
            raise Stopped

    with pytest.raises(Stopped):
        take(settings, path, reached=stop)
    report = take(settings, path)
    rejects = Path(str(report.reject_file))
    assert [json.loads(each)["_row"] for each in rejects.read_text().splitlines()] == [2, 502, 1002, 1502, 2002]
    assert report.rows_before == 1_000
    corrected = take(settings, written(tmp_path / "a.csv", *(line(number, paid=1) for number in range(2_500))))
    assert (corrected.rows_before, corrected.accepted, corrected.duplicates) == (0, 5, 2_495)
    assert not rejects.exists()


def test_a_file_of_mistakes_alone_is_all_bad(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", line(1, who=""))
    assert take(settings, path).all_bad
    assert not take(settings, path).all_bad  # nothing new in it


def test_features_over_events_know_what_a_file_tells(chosen: Settings, tmp_path: Path) -> None:
    declared = EventFeature(id="spend", event="purchase", compute="sum", of="value", windows=(timedelta(days=7),))
    last = EventFeature(id="last", event="purchase", compute="last", of="product_id")
    release(chosen, [declared, last])
    features = EventFeatures([declared, last])
    store = Store(chosen)
    open_states(chosen).note_replayed(features.states.digest, Replay(0, complete=True), now=NOW)
    take(chosen, written(tmp_path / "a.csv", *(line(number, at="2026-03-01") for number in range(20))))
    shutil.rmtree(chosen.home / "ingested")
    take(chosen, tmp_path / "a.csv")  # all of them told again
    for customer, orders, bought in (("c-3", 3, "p-6"), ("c-6", 2, "p-6"), ("c-7", 0, None)):
        kept = store.read(Subject(customer), states=features.states.digest).states
        assert kept is not None
        assert features.of_person(kept, now=NOW) == {"spend_7d": 2.5 * orders, "last": bought}
    store.close()


def test_names_mean_what_the_catalogue_says_of_their_source(settings: Settings, tmp_path: Path) -> None:
    till = Source(id="till", events={"SALE": "purchase"}, ignored=("heartbeat",), currency="CHF", market="ch")
    lines = [
        line(1, kind="SALE"),
        line(2, kind="Order Completed"),
        line(3, kind="heartbeat"),
        line(4, kind="Song Played"),
    ]
    report = take(settings, written(tmp_path / "a.csv", *lines), sources=(till,))
    assert (report.accepted, report.ignored, report.unmapped) == (3, 1, 1)
    assert [each.name for each in kept(settings)] == ["purchase", "purchase", "song_played"]
    assert kept(settings)[0].properties == {"product_id": "p-1", "value": 2.5, "currency": "CHF"}
    assert kept(settings)[0].market == "ch"


def test_what_a_file_tells_is_counted_as_what_comes_over_http(settings: Settings, tmp_path: Path) -> None:
    till = Source(id="till", ignored=("heartbeat",))
    lines = [line(1), line(2), line(3, kind="heartbeat"), line(4, kind="Song Played"), line(5, who="")]
    take(settings, written(tmp_path / "a.csv", *lines), sources=(till,))
    with closing(FeedCounts(settings)) as feeds:
        counts = feeds.read(since=datetime(2020, 1, 1, tzinfo=UTC))
    told = {(each.name, each.what): each.count for each in counts if not each.what.startswith("type:")}
    assert told == {
        ("purchase", "received"): 2,
        ("purchase", "occurred"): 2,
        ("song_played", "received"): 1,
        ("song_played", "occurred"): 1,
        ("Song Played", "unmapped"): 1,
        ("heartbeat", "ignored"): 1,
        ("other", "rejected"): 1,
    }
    assert {each.hour for each in counts if each.what == "occurred"} == {datetime(2026, 1, 5, 10, tzinfo=UTC)}
    assert {each.last_at for each in counts if each.what == "received"} == {NOW}


def test_what_was_read_before_a_file_breaks_off_is_kept_and_the_next_run_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    lines = [line(number, paid=number * 7919 % 10_007) for number in range(9_000)]
    whole = gzip.compress((HEADER + "".join(lines)).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read any further"):
        take(settings, path)
    before = len(kept(settings))
    assert before >= SCAN_EVERY
    path.write_bytes(whole)
    report = take(settings, path)
    assert (report.rows_before, report.accepted) == (before, 9_000 - before)


def test_columns_that_no_json_line_has_are_told(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "kind": "purchase", "at": "2026-01-05", "who": 7, "Sku": "a"}\n')
    report = take(settings, path)
    assert (report.accepted, report.unseen_columns) == (1, ["paid", "sku"])


def test_with_a_secret_for_pseudonyms_no_id_of_the_file_is_kept(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, pseudonym_secret="0123456789abcdef")
    mia = settings.pseudonyms.of("mia@example.com")
    take(settings, written(tmp_path / "a.csv", line(1, who="mia@example.com")))
    assert [event.customer_id for event in kept(settings)] == [mia]
    assert [purchase.product for purchase in hot(settings, mia)[0].purchases] == ["p-1"]
    for path in (path for path in settings.home.rglob("*") if path.is_file()):
        assert b"mia@example.com" not in path.read_bytes(), path


def test_money_of_a_file_is_kept_in_the_catalogue_s_currency(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", line(1, sku="CHF"), line(2, sku="DKK"))
    properties = {**MAPPING["properties"], "currency": "sku"}
    report = take(settings, path, currencies=Currencies("EUR", {"CHF": 1.05}), properties=properties)
    assert [each.properties.get("value") for each in kept(settings)] == [2.625, None]
    assert [each.properties["value_original"] for each in kept(settings)] == [2.5, 2.5]
    assert report.unmapped == 1
