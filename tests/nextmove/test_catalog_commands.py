"""`nextmove catalog ...` and `nextmove audience`, over a small catalogue of the simulated domain."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pandas as pd
import pytest
import yaml

from decisioning.content import Journey, Stage, Transition
from decisioning.profile import ConsentChange
from nextmove.cli import app, main
from nextmove.journey_chart import journey_chart
from storage.catalog_schema import catalog_schema
from storage.ledger.consents import append_consents
from storage.settings import Settings
from training.features import declared_features, declared_views

ROOT = Path(__file__).parents[2]
SHOP = """\
domain: simulated
currency: EUR
rates: {CHF: 1.05}
groups: [cards]
goals: [sell]
channels: [{id: web}, {id: email, requires_consent: marketing}]
placements: [{id: hero, channel: web, reward: {click: 1}, priority_scale: 10}]
actions:
  - id: loan
    name: Loan
    group: cards
    goal: sell
    status: live
    value: 10
    eligibility: customer.age != null && customer.age > 30
    treatments: [{id: loan_web, channel: web}]
journeys:
  - id: life
    stages: [{id: new, name: 'New; "fresh"', entry: "customer.age == null"}, {id: end, name: End}]
    transitions: [{source: new, target: end, "on": "accept:loan"}]
audiences:
  - {id: adult, rule: "customer.age > 18", minimum_size: {web: 2, email: 2}}
  - {id: nobody, rule: "customer.age > 200"}
"""
CH = "currency: CHF\nactions: [{id: loan, value: 12}]\n"


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Desk(NamedTuple):
    """A marketer's desk: the command line, and the folder with the files."""

    run: Callable[..., Said]
    folder: Path
    home: Path


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    folder = tmp_path / "catalog" / "simulated"
    for name, text in {"global": SHOP, "markets/ch": CH}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "all.yaml").write_text(text)
    monkeypatch.setenv("NEXTMOVE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NEXTMOVE_CATALOG_DIR", str(tmp_path / "catalog"))

    def run(*arguments: str) -> Said:
        code = 0
        try:
            main(lambda: app(list(arguments), standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Said(code, *capfd.readouterr())

    return Desk(run, folder, tmp_path / "state")


def test_a_check_counts_each_market(desk: Desk) -> None:
    said = desk.run("catalog", "check")
    assert said.code == 0
    assert [line[:15] for line in said.out.splitlines()] == ["ok: global: 1 a", "ok: ch: 1 actio"]
    counted = json.loads(desk.run("catalog", "check", "--json").out)
    assert counted["markets"]["ch"]["audiences"] == 2


def test_a_check_of_a_wrong_catalogue_fails_with_every_mistake(desk: Desk) -> None:
    (desk.folder / "markets" / "ch" / "all.yaml").write_text(
        "currency: PLN\nactions: [{id: loan, eligibility: customer.agee > 1}]"
    )
    said = desk.run("catalog", "check")
    assert said.code == 1
    assert "simulated/markets/ch/all.yaml:1: market ch: currency: is PLN" in said.err
    assert "simulated/markets/ch/all.yaml:2: market ch: actions[loan].eligibility: " in said.err
    assert "one like customer.age" in said.err
    as_json = desk.run("catalog", "check", "--json")
    assert as_json.code == 1
    assert len(json.loads(as_json.out)["mistakes"]) == 2


def test_show_gives_the_whole_catalogue_as_yaml(desk: Desk) -> None:
    shown = yaml.safe_load(desk.run("catalog", "show", "--market", "ch").out)
    assert (shown["market"], shown["market_currency"], shown["actions"][0]["value"]) == ("ch", "CHF", 12.0)


def test_show_says_what_differs_and_where_it_comes_from(desk: Desk) -> None:
    said = desk.run("catalog", "show", "--market", "ch", "--diff").out
    assert "actions[loan].value: 10.0 -> 12.0  (simulated/markets/ch/all.yaml:2)" in said
    rows = json.loads(desk.run("catalog", "show", "--market", "ch", "--diff", "--json").out)
    assert [row["path"] for row in rows] == ["currency", "actions[loan].value", "actions[loan].currency"]
    assert "does not differ" in desk.run("catalog", "show", "--diff").out


def test_an_unknown_market_says_which_there_are(desk: Desk) -> None:
    said = desk.run("catalog", "show", "--market", "fr")
    assert said.code == 1
    assert "market is 'fr', must be one of ch, global" in said.err


def test_a_release_writes_notes_for_each_market(desk: Desk) -> None:
    desk.run("catalog", "release")
    blueprint = desk.folder / "global" / "all.yaml"
    blueprint.write_text(SHOP.replace("name: Loan", "name: Credit"))

    said = desk.run("catalog", "release", "--reason", "new name")

    assert said.out.startswith("released: sha256:")
    version = said.out.split()[1].removeprefix("sha256:")
    for market in ("global", "ch"):
        notes = (desk.home / "releases" / version[:12] / f"{market}.md").read_text()
        assert notes in said.out
        assert "- Reason: new name" in notes
        assert "- `actions[loan].name`: `Loan` -> `Credit`" in notes


def test_a_release_of_nothing_new_says_so(desk: Desk) -> None:
    assert json.loads(desk.run("catalog", "release", "--json").out)["changed"] is True
    said = desk.run("catalog", "release")
    assert said.out.startswith("already released: sha256:")
    assert said.out.strip().endswith("nothing changed")


def test_a_market_that_is_gone_has_notes_too(desk: Desk) -> None:
    desk.run("catalog", "release")
    (desk.folder / "markets" / "ch" / "all.yaml").unlink()
    (desk.folder / "markets" / "ch").rmdir()

    paths = json.loads(desk.run("catalog", "release", "--json").out)["notes"]

    assert "The market is gone." in Path(paths["ch"]).read_text()


def test_journeys_are_drawn(desk: Desk) -> None:
    drawn = desk.run("catalog", "journey", "--journey", "life").out
    assert drawn.startswith("stateDiagram-v2\n")
    assert """state "New; 'fresh'" as stage1_1""" in drawn
    assert "stage1_1 --> stage1_2 : accept:loan" in drawn
    assert "entry: customer.age == null" in drawn
    assert "there is no journey 'x', must be one of life" in desk.run("catalog", "journey", "--journey", "x").err


def test_a_label_never_ends_a_note_and_says_nothing_to_mermaid() -> None:
    odd = Stage(id="end", name='a "b" #34; <i>', entry="x == 'end note' ;;\n%% y")
    drawn = journey_chart(
        [Journey(id="j", stages=(odd,), transitions=(Transition(source="end", target="end", on="click"),))]
    )
    assert [line.strip() for line in drawn.splitlines()].count("end note") == 1
    assert """state "a 'b' # 34; < i>" as stage1_1""" in drawn
    assert "%%" not in drawn


def test_the_committed_schema_is_that_of_the_code(desk: Desk) -> None:
    committed = json.loads((ROOT / "catalog" / "schema.json").read_text())
    assert committed == catalog_schema() == json.loads(desk.run("catalog", "schema").out)
    jsonschema.Draft202012Validator.check_schema(committed)


@pytest.mark.parametrize("path", sorted((ROOT / "catalog").glob("*/**/*.yaml")), ids=lambda path: path.stem)
def test_every_file_that_loads_is_valid_under_the_schema(path: Path) -> None:
    content = json.loads(json.dumps(yaml.load(path.read_text(), Loader=_Texts)))
    jsonschema.validate(content, catalog_schema())


class _Texts(yaml.SafeLoader):
    """As editors read YAML: no truth value but true and false, and times are texts."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        if first not in "tTfF"
    } | {first: yaml.SafeLoader.yaml_implicit_resolvers[first] for first in "tTfF"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": 1},
        {"actions": [{"name": "no id"}]},
        {"actions": [{"id": "a", "status": "lve"}]},
        {"currency": "euro"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, catalog_schema())


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


def test_an_audience_counts_the_newest_row_of_every_customer(desk: Desk) -> None:
    ingested(desk, {"c-1": 41.0, "c-2": 17.0, "c-3": None, "c-4": 19.0})
    desk.run("catalog", "release")
    consent = ConsentChange(
        customer_id="c-1",
        purpose="marketing",
        channel="email",
        granted=True,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        source="t",
    )
    append_consents(Settings(home=desk.home), [consent])

    said = desk.run("audience", "--json")

    assert said.code == 1
    adult, nobody = json.loads(said.out)
    assert (adult["members"], adult["unknown"], adult["customers"]) == (2, 1, 4)
    assert (adult["reachable"], adult["too_small"]) == ({"web": 2, "email": 1}, ["email"])
    assert nobody["members"] == 0
    assert desk.run("audience", "--audience", "nobody").code == 0
    assert "email 1 of 2" in desk.run("audience", "--audience", "adult").out


def test_an_audience_of_nobody_ingested_says_what_to_run(desk: Desk) -> None:
    assert "nextmove ingest --dataset simulated" in desk.run("audience").err
    assert "there is no audience 'x', must be one of adult, nobody" in desk.run("audience", "--audience", "x").err


def test_features_are_known_without_a_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulated = declared_features("simulated")
    assert simulated.customer["age"] == "number"
    assert simulated.customer["account_id"] == "text"
    assert simulated.customer["responsibilities"] == "texts"
    assert simulated.account["sites"] == "texts"
    assert not list(tmp_path.iterdir())
