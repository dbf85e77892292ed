import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from storage.privacy import erasure
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove, refused

__all__ = ["nextmove"]

MAPPING = """
source: till
event: purchase
time: at
customer: who
message_id: [id]
properties:
  value: {column: paid, type: number}
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "GRACE", timedelta(seconds=1))


@pytest.fixture
def orders(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    (tmp_path / "till.yaml").write_text(MAPPING)

    def ingest(rows: str) -> tuple[str, ...]:
        (tmp_path / "orders.csv").write_text(f"id,at,who,paid\n{rows}")
        return "ingest", "events", str(tmp_path / "orders.csv"), "--mapping", str(tmp_path / "till.yaml"), "--json"

    return ingest


def test_a_person_is_exported_erased_kept_out_and_readmitted(
    nextmove: Callable[..., Said], orders: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    bought = "1,2026-01-05T10:00:00,c-1,2.5\n2,2026-01-05T10:00:00,c-2,2.5\n"
    assert json.loads(nextmove(*orders(bought)).out)["accepted"] == 2

    exported = nextmove("privacy", "export", "c-1", "--to", str(tmp_path / "c-1.json"))
    assert exported.code == 0
    parts = {part["name"]: part["items"] for part in json.loads((tmp_path / "c-1.json").read_text())["parts"]}
    assert [item["customer_id"] for item in parts["ledger.events"]] == ["c-1"]
    assert json.loads(nextmove("privacy", "export", "c-1").out)["ids"] == ["c-1"]

    erased = nextmove("privacy", "erase", "c-1", "--json")
    assert erased.code == 0
    said = json.loads(erased.out)
    assert (said["status"], said["counts"]["events"]) == ("done", 1)
    [listed] = json.loads(nextmove("privacy", "requests", "--json").out)
    assert listed == said
    assert "c-1" not in nextmove("privacy", "requests").out
    assert "nothing is held" in refused(nextmove("privacy", "export", "c-1"))

    shutil.rmtree(tmp_path / "state" / "ingested")  # read anew from its first row
    again = json.loads(nextmove(*orders(bought + "3,2026-01-06T10:00:00,c-1,oops\n")).out)
    assert (again["accepted"], again["ignored"], again["rejected"], again["reject_file"]) == (0, 2, 0, None)
    assert b"c-1" not in b"".join(
        path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file() and path.suffix != ".log"
    )

    assert nextmove("privacy", "readmit", "c-1").code == 0
    assert "is not erased" in refused(nextmove("privacy", "readmit", "c-1"))
    back = json.loads(nextmove(*orders("9,2026-01-07T10:00:00,c-1,2.5\n")).out)
    assert back["accepted"] == 1


def test_purging_says_what_it_would_delete_and_then_does(
    nextmove: Callable[..., Said], orders: Callable[[str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nextmove(*orders("1,2026-01-05T10:00:00,c-1,2.5\n"))
    kept = {each["table"]: each for each in json.loads(nextmove("privacy", "purge", "--json").out)}
    assert kept["events"] == {"table": "events", "days": None, "rows": 0}
    monkeypatch.setenv("NEXTMOVE_RETENTION_DAYS_EVENTS", "30")
    monkeypatch.setattr("nextmove.privacy_commands.now_utc", lambda: now() + timedelta(days=31))
    counted = nextmove("privacy", "purge", "--dry-run")
    assert "30 days" in counted.out
    assert "nextmove privacy purge" in counted.err
    for rows in (1, 0):
        purged = {each["table"]: each["rows"] for each in json.loads(nextmove("privacy", "purge", "--json").out)}
        assert purged["events"] == rows


def now():  # type: ignore[no-untyped-def]
    from nextmove.options import now_utc

    return now_utc()


def test_without_requests_the_list_says_so(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    assert "nobody was erased" in nextmove("privacy", "requests").out
    assert Settings(home=tmp_path / "state").ledger_path.exists()


@pytest.mark.parametrize("command", ["erase", "export"])
def test_what_is_no_id_is_one_clear_line(nextmove: Callable[..., Said], command: str) -> None:
    assert "1 to 256 characters" in refused(nextmove("privacy", command, "a\tb"))
