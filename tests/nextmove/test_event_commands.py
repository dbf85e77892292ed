"""`nextmove ingest events` as people type it, and what `docs/events.md` shows."""

import csv
import gzip
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from storage import event_mapping
from storage.event_mapping import read_mapping
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove, refused

__all__ = ["nextmove"]

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
RETAIL = (
    Path(os.environ.get("NEXTMOVE_DATA", ROOT.parent / "shared" / "data"))
    / "online_retail"
    / "online_retail_by_day_concat.csv.gz"
)
MAPPING = "source: till\nevent: purchase\ntime: at\ncustomer: who\nmessage_id: [id]\n"
GOOD, BAD = "1,2026-01-05,c-1\n", "2,soon,c-1\n"


@pytest.fixture
def orders(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """A file of these lines, and what follows `nextmove ingest` for it."""

    def write(*lines: str, mapping: str = MAPPING) -> tuple[str, ...]:
        (tmp_path / "orders.csv").write_text("id,at,who\n" + "".join(lines), encoding="utf-8")
        (tmp_path / "orders.yaml").write_text(mapping, encoding="utf-8")
        return "events", str(tmp_path / "orders.csv"), "--mapping", str(tmp_path / "orders.yaml")

    return write


def test_a_file_is_taken_in_and_said_to_be(
    nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    said = nextmove("ingest", *orders(GOOD, "2,2026-01-06,c-2\n"))
    assert said.code == 0
    assert "2 rows, 2 new events" in said.err
    assert "nobody has given a meaning" not in said.err
    with closing(LedgerReader(Settings(home=tmp_path / "state"))) as reader:
        assert [each.event_id for each in reader.events("simulated")] == ["till/1", "till/2"]
    assert "0 rows, 0 new events, 2 rows of earlier runs" in nextmove("ingest", *orders(GOOD, "2,2026-01-06,c-2\n")).err


def test_machines_get_json(nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]]) -> None:
    said = nextmove("ingest", *orders(GOOD, BAD), "--json", "--source", "shop", "--dataset", "hillstrom")
    report = json.loads(said.out)
    assert (report["source"], report["accepted"], report["rejected"]) == ("shop", 1, 1)
    assert report["mistakes"] == ["orders.csv row 3, column at: is 'soon', must be a time like 2026-11-21T18:00:00"]
    assert report["seconds"] > 0


def test_a_mistake_is_shown_and_only_strict_fails(
    nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]]
) -> None:
    said = nextmove("ingest", *orders(GOOD, BAD))
    assert said.code == 0
    assert "orders.csv row 3, column at: is 'soon', must be a time" in said.err
    assert "1 rows could not be used: " in said.err
    strict = nextmove("ingest", *orders(GOOD, BAD, "3,2026-01-06,c-1\n", "4,never,c-1\n"), "--strict")
    assert "1 of 2 rows of orders.csv could not be used" in refused(strict)


def test_more_mistakes_than_anybody_reads_are_counted(
    nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]]
) -> None:
    said = nextmove("ingest", *orders(GOOD, *[BAD] * 25))
    assert said.err.count("column at: is 'soon'") == 20
    assert "and 5 more" in said.err


def test_a_file_of_mistakes_alone_fails(nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]]) -> None:
    assert "no row of orders.csv could be used" in refused(nextmove("ingest", *orders(BAD)))


@pytest.mark.parametrize(
    ("mapping", "more", "said"),
    [
        (MAPPING.replace("source: till\n", ""), (), "orders.yaml names no source"),
        (MAPPING, ("--source", "x" * 65), "must have 1 to 64 signs"),
        (MAPPING.replace("at", "when"), (), "orders.csv lacks when, which the mapping names; its columns are id, at"),
        (MAPPING + "colour: red\n", (), "orders.yaml:1: Object contains unknown field `colour`"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    nextmove: Callable[..., Said],
    orders: Callable[..., tuple[str, ...]],
    mapping: str,
    more: tuple[str, ...],
    said: str,
) -> None:
    assert said in refused(nextmove("ingest", *orders(GOOD, mapping=mapping), *more))


def test_options_of_the_bare_command_are_not_lost_in_silence(
    nextmove: Callable[..., Said], orders: Callable[..., tuple[str, ...]]
) -> None:
    said = nextmove("ingest", "--dataset", "hillstrom", *orders(GOOD))
    assert "must stand behind 'events'" in refused(said)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_mapping_in_the_guide_can_be_read(block: str, tmp_path: Path) -> None:
    (tmp_path / "block.yaml").write_text(block, encoding="utf-8")
    assert read_mapping(tmp_path / "block.yaml").source


def test_the_guide_names_every_key() -> None:
    kinds = ("EventMapping", "FileFormat", "Condition", "Name", "When", "Who", "Property")
    for kind in kinds:
        for name in getattr(event_mapping, kind).__struct_fields__:
            assert re.search(rf"`(\{{)?{name}\b", GUIDE), f"{kind}.{name}"


@pytest.mark.skipif(not RETAIL.is_file(), reason=f"{RETAIL} is not there; set NEXTMOVE_DATA")
def test_the_guides_mapping_makes_of_a_real_shops_lines_its_orders(
    nextmove: Callable[..., Said], tmp_path: Path
) -> None:
    with gzip.open(RETAIL, "rt", encoding="utf-8", newline="") as whole:
        lines = list(islice(whole, 12_001))
    (tmp_path / "cut.csv").write_text("".join(lines), encoding="utf-8")
    [mapping] = [block for block in BLOCKS if block.startswith("# online_retail.yaml\n")]
    (tmp_path / "online_retail.yaml").write_text(mapping, encoding="utf-8")
    said = nextmove(
        "ingest", "events", str(tmp_path / "cut.csv"), "--mapping", str(tmp_path / "online_retail.yaml"), "--json"
    )
    report = json.loads(said.out)

    orders: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader(lines):
        if row["CustomerID"]:
            orders[row["InvoiceNo"]].append(row)
    assert (said.code, report["rows"], report["rejected"]) == (0, 12_000, 0)
    assert report["left_out"] == 12_000 - sum(map(len, orders.values()))
    assert report["accepted"] == len(orders) > 400
    with closing(LedgerReader(Settings(home=tmp_path / "state"))) as reader:
        events = {each.event_id.removeprefix("online_retail/"): each for each in reader.events("simulated")}
    assert events.keys() == orders.keys()
    for number, rows in orders.items():
        told, first = events[number], rows[0]
        assert told.name == ("order_cancelled" if number.startswith("C") else "purchase")
        assert told.customer_id == first["CustomerID"].removesuffix(".0")
        at = datetime.fromisoformat(first["InvoiceDate"]).replace(tzinfo=ZoneInfo("Europe/London"))
        assert told.occurred_at == at.astimezone(UTC)
        paid = sum(int(row["Quantity"]) * float(row["UnitPrice"]) for row in rows)
        assert told.properties["value"] == pytest.approx(paid)
        assert [line["product_id"] for line in told.properties["products"]] == [row["StockCode"] for row in rows]
