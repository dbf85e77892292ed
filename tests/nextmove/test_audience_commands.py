"""`nextmove audience ...`, over a small catalogue of the simulated domain."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from decisioning.profile import ConsentChange
from decisioning.running_dry import Size
from storage.ledger.audience_sizes import keep_sizes, kept_sizes
from storage.ledger.consents import append_consents
from storage.settings import Settings
from tests.nextmove.desk import SHOP, Desk, desk_in
from training.features import declared_views

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    return desk_in(tmp_path, capfd, monkeypatch)


def ingested(desk: Desk, ages: dict[str, float | None]) -> None:
    """Offline files as `nextmove ingest` leaves them, with an old row of everybody."""
    settings = Settings(home=desk.home, domain="simulated")
    times = pd.to_datetime(["2026-01-01", "2026-02-01"], utc=True).as_unit("us")
    tables: dict[Path, pd.DataFrame] = {}
    for view in declared_views(settings, "simulated"):
        key = f"{view.entity}_id"
        ids = [name for name in ages for _ in times] if view.entity == "customer" else ["acme", "acme"]
        table = tables.setdefault(view.path, pd.DataFrame({key: ids, "event_timestamp": [*times] * (len(ids) // 2)}))
        for name, kind in view.kinds.items():
            table[name] = pd.Series([None] * len(ids), dtype="float64" if kind == "number" else "object")
        if "age" in view.kinds:
            table["age"] = [value for age in ages.values() for value in (99.0, age)]
    for path, table in tables.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)


def consents(desk: Desk, *customers: str) -> None:
    changes = [
        ConsentChange(customer_id=customer, purpose="marketing", channel="email", granted=True, at=LONG_AGO, source="t")
        for customer in customers
    ]
    append_consents(Settings(home=desk.home), changes)


def kept(desk: Desk) -> list[Size]:
    return kept_sizes(Settings(home=desk.home), since=LONG_AGO)


def test_an_audience_counts_the_newest_row_of_every_customer(desk: Desk) -> None:
    ingested(desk, {"c-1": 41.0, "c-2": 17.0, "c-3": None, "c-4": 19.0})
    desk.run("catalog", "release")
    consents(desk, "c-1")

    said = desk.run("audience", "--json")

    assert said.code == 1
    counted = json.loads(said.out)
    adult, nobody = counted["audiences"]
    assert counted["customers"] == 4
    assert (adult["members"], adult["unknown"]) == (2, 1)
    assert adult["reachable"] == {"web": 2, "email": 1}
    assert counted["warnings"] == ["audience adult on email is too small: 1 customers, at least 2 are asked for"]
    assert nobody["members"] == 0
    assert desk.run("audience", "--audience", "nobody").code == 0
    assert "email 1 of 2" in desk.run("audience", "--audience", "adult").out


def test_an_action_is_open_to_whom_a_decision_could_show_it(desk: Desk) -> None:
    personal = SHOP.replace("currency: EUR", "currency: EUR\npersonalisation: default")
    (desk.folder / "global" / "all.yaml").write_text(personal)
    ingested(desk, {"c-1": 41.0, "c-2": 17.0, "c-3": None})
    desk.run("catalog", "release")
    counted = json.loads(desk.run("audience", "--json").out)
    assert counted["actions"] == [{"action": "loan", "open_to": 1, "unknown": 0}]


def test_a_count_of_everything_under_the_released_catalogue_is_kept(desk: Desk) -> None:
    ingested(desk, {"c-1": 41.0, "c-2": 50.0})
    assert "not kept: these files are not the released catalogue" in desk.run("audience").err
    desk.run("catalog", "release")
    desk.run("audience", "--audience", "adult")
    assert kept(desk) == []
    desk.run("audience")
    assert [(size.kind, size.id, size.size) for size in kept(desk)] == [
        ("action", "loan", 0), ("audience", "adult", 2), ("audience", "nobody", 0),
        ("reach", "adult/email", 0), ("reach", "adult/web", 2),
    ]  # fmt: skip
    desk.run("audience", "--market", "ch")
    assert {size.market for size in kept(desk)} == {"global", "ch"}


def test_the_history_is_what_was_kept_day_by_day(desk: Desk) -> None:
    assert "no sizes were kept yet; run: nextmove audience" in desk.run("audience", "--history").err
    now = datetime.now(UTC)
    sizes = [Size("global", "audience", "adult", now - timedelta(days=n), 100 * (8 - n), 900) for n in (0, 1, 1.01, 3)]
    keep_sizes(Settings(home=desk.home), sizes)
    said = desk.run("audience", "--history")
    assert said.code == 0
    assert "▅ ▇█" in said.out
    [history] = json.loads(desk.run("audience", "--history", "--json").out)
    assert [day["size"] for day in history["days"]] == [500, 700, 800]
    assert json.loads(desk.run("audience", "--history", "--audience", "nobody", "--json").out) == []


def test_an_audience_that_runs_dry_is_told_with_exit_code_1(desk: Desk) -> None:
    ingested(desk, {"c-1": 41.0, "c-2": 50.0})
    desk.run("catalog", "release")
    consents(desk, "c-1", "c-2")
    now = datetime.now(UTC)
    past = [Size("global", "audience", "adult", now - timedelta(days=n), 500, 900) for n in range(1, 10)]
    assert desk.run("audience").code == 0
    keep_sizes(Settings(home=desk.home), past)
    said = desk.run("audience")
    assert said.code == 1
    assert "warning: audience adult runs dry: 2 customers, about 500 are usual" in said.out


def test_an_audience_of_nobody_ingested_says_what_to_run(desk: Desk) -> None:
    assert "nextmove ingest --dataset simulated" in desk.run("audience").err
    assert "there is no audience 'x', must be one of adult, nobody" in desk.run("audience", "--audience", "x").err
