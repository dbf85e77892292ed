"""`nextmove audience ...`, over a small catalogue of the simulated domain."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from decisioning.audience_list import hashed
from decisioning.profile import ConsentChange
from decisioning.running_dry import Size
from storage.blobs import BlobStore
from storage.bundles import stages_pointer
from storage.hot_state.state_replay import replay_states
from storage.ledger.audience_sizes import keep_sizes, kept_sizes
from storage.ledger.consents import append_consents
from storage.ledger.reader import LedgerReader
from storage.released_features import released_features
from storage.settings import Settings
from tests.nextmove.desk import SHOP, Desk, desk_in
from training.features import declared_views

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    return desk_in(tmp_path, capfd, monkeypatch)


def ingested(desk: Desk, ages: dict[str, float | None], *, contacts: dict[str, str] | None = None) -> None:
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
        if "referred_by" in view.kinds:  # a text that could as well be an address
            table["referred_by"] = [(contacts or {}).get(name) for name in ages for _ in times]
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


MIA, BO = "mia@example.com", "bo@example.com"
EXPORT = ("audience", "export", "adult", "--channel", "email", "--contact", "referred_by")


@pytest.fixture
def addressed(desk: Desk) -> Desk:
    """A shop with addresses: Mia and Bo may be written to, a third may not, and Bo has just bought."""
    personal = SHOP.replace("currency: EUR", "currency: EUR\npersonalisation: default")
    (desk.folder / "global" / "all.yaml").write_text(personal)
    desk.run("catalog", "release")
    contacts = {"c-1": " Mia@Example.com", "c-2": BO, "c-3": "cy@example.com"}
    ingested(desk, {"c-1": 41.0, "c-2": 42.0, "c-3": 43.0}, contacts=contacts)
    consents(desk, "c-1", "c-2")
    bought = desk.folder.parent / "bought.csv"
    bought.write_text(f"who,at,what\nc-2,{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ},rug\n")
    mapping = bought.with_suffix(".yaml")
    mapping.write_text("source: till\nevent: purchase\ntime: at\ncustomer: who\nproperties: {product_id: what}\n")
    assert desk.run("ingest", "events", str(bought), "--mapping", str(mapping)).code == 0
    return desk


def test_an_export_is_hashed_and_names_only_who_consented(addressed: Desk, tmp_path: Path) -> None:
    said = addressed.run(*EXPORT, "--to", str(tmp_path / "a.csv"))
    assert said.code == 0, said.err
    listed = (tmp_path / "a.csv").read_text().split()
    assert listed == ["email", *sorted(hashed(each) for each in (MIA, BO))]
    assert "left out: 1 (no consent)" in said.out
    assert not any(name in said.out + said.err for name in (MIA, BO, "c-1", "c-3"))


def test_recent_buyers_are_in_a_file_of_their_own_and_the_export_is_audited(addressed: Desk, tmp_path: Path) -> None:
    said = addressed.run(*EXPORT, "--to", str(tmp_path / "a.csv"), "--recent-buyers", "30d", "--plain", "--json")
    assert (tmp_path / "a.csv").read_text().split() == ["email", MIA]
    assert (tmp_path / "a.suppression.csv").read_text().split() == ["email", BO]
    assert json.loads(said.out)["left_out"] == {"no consent": 1, "bought lately": 1}
    with closing(LedgerReader(Settings(home=addressed.home))) as reader:
        [entry] = reader.audits(what=["audience.export"])
    assert entry.subject == "adult"
    assert entry.reason == "1 email contacts and 1 recent buyers, plain, for marketing on email"


def test_without_a_recent_purchase_of_the_product_nobody_is_suppressed(addressed: Desk, tmp_path: Path) -> None:
    for given in (("1d",), ("30d", "--product", "sofa")):
        addressed.run(*EXPORT, "--to", str(tmp_path / "a.csv"), "--plain", "--recent-buyers", *given)
        assert (tmp_path / "a.suppression.csv").read_text().split() == ["email"]


def test_options_of_an_export_stand_behind_its_name(addressed: Desk, tmp_path: Path) -> None:
    said = addressed.run("audience", "--market", "ch", *EXPORT[1:], "--to", str(tmp_path / "a.csv"))
    assert (said.code, list(tmp_path.glob("a.csv"))) == (1, [])
    assert "--dataset and --market must stand behind 'export'" in said.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--channel", "fax"), "there is no channel 'fax', must be one of web, email"),
        (("--purpose", "fun"), "there is no purpose 'fun', must be one of personalisation, marketing"),
        (("--contact", "age"), "there is no text among the customers' features called 'age', must be one of"),
        (("--recent-buyers", "soon"), "--recent-buyers is 'soon', must be a time ago such as 30m"),
        (("--product", "rug"), "--product says what recent buyers bought: give --recent-buyers 30d too"),
        (("--to", "/nowhere/a.csv"), "nothing was written in /nowhere"),
    ],
)
def test_a_wrong_export_is_one_line(addressed: Desk, tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    run = addressed.run(*EXPORT, "--to", str(tmp_path / "a.csv"), *given)
    assert run.code == 1
    assert said in run.err
    assert not (tmp_path / "a.csv").exists()


def test_an_audience_may_be_of_what_customers_did(addressed: Desk) -> None:
    blueprint = addressed.folder / "global" / "all.yaml"
    declared = "event_features: [{id: orders, event: purchase, compute: count, windows: [P30D]}]\n"
    buyers = '  - {id: buyers, rule: "customer.orders_30d > 0.0"}\n'
    blueprint.write_text(blueprint.read_text().rstrip() + "\n" + buyers + declared)
    addressed.run("catalog", "release")
    settings = Settings(home=addressed.home)
    declared_now = released_features(settings)
    assert declared_now is not None
    assert replay_states(settings, declared_now, clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    counted = json.loads(addressed.run("audience", "--audience", "buyers", "--json").out)
    assert [(each["members"], each["unknown"]) for each in counted["audiences"]] == [(1, 0)]


def test_a_model_of_next_stages_that_cannot_be_read_is_said(addressed: Desk, tmp_path: Path) -> None:
    blueprint = addressed.folder / "global" / "all.yaml"
    going = '  - {id: going, rule: "customer.chance_of_end != null && customer.chance_of_end > 0.5"}\n'
    foretold = blueprint.read_text().replace("- id: life", "- id: life\n    horizon: P14D")
    blueprint.write_text(f"{foretold.rstrip()}\n{going}")
    addressed.run("catalog", "release")
    counted = ("audience", "--audience", "going")
    export = ("audience", "export", "going", *EXPORT[3:], "--to", str(tmp_path / "a.csv"))
    assert "not foretold" not in addressed.run(*counted).out + addressed.run(*export).out
    with closing(BlobStore(Settings(home=addressed.home))) as blobs:
        blobs.point(stages_pointer("simulated"), blobs.put(b"no bundle"), now=LONG_AGO, reason="test")
    for command in (counted, export):
        assert "stages are not foretold: " in addressed.run(*command).out
    [size] = json.loads(addressed.run(*counted, "--json").out)["audiences"]
    assert size["unknown"] == json.loads(addressed.run(*export, "--json").out)["unknown"] == 3
