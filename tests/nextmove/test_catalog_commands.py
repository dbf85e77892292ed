"""`nextmove catalog ...`, over a small catalogue of the simulated domain."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from decisioning.content import Journey, Stage, Transition
from nextmove.journey_chart import journey_chart
from storage.catalog_schema import catalog_schema
from tests.nextmove.desk import SHOP, Desk, desk_in
from training.features import declared_features

ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    return desk_in(tmp_path, capfd, monkeypatch)


def test_a_check_counts_each_market(desk: Desk) -> None:
    said = desk.run("catalog", "check")
    assert said.code == 0
    assert [line[:15] for line in said.out.splitlines()] == ["ok: global: 1 a", "ok: ch: 1 actio"]
    counted = json.loads(desk.run("catalog", "check", "--json").out)
    assert counted["markets"]["ch"]["audiences"] == 2


def test_a_check_doubts_an_event_that_nobody_maps_to_its_name(desk: Desk) -> None:
    (desk.folder / "global" / "event_features.yaml").write_text(
        "event_features:\n"
        "  - {id: orders, event: purchase, compute: count, windows: [P1D]}\n"
        "  - {id: pages, event: page, compute: count, windows: [P1D, P7D]}\n"
        "  - {id: calls, event: calls_made, compute: recency}\n"
    )
    said = desk.run("catalog", "check")
    assert said.code == 0
    assert said.err.splitlines()[0].startswith(
        "warning: event_features[calls].event: is 'calls_made', which no source maps an event to"
    )
    assert "3 event features" in said.out
    as_json = json.loads(desk.run("catalog", "check", "--json").out)
    assert (len(as_json["warnings"]), as_json["markets"]["global"]["event_features"]) == (1, 3)


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


def test_features_are_known_without_a_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulated = declared_features("simulated")
    assert simulated.customer["age"] == "number"
    assert simulated.customer["account_id"] == "text"
    assert simulated.customer["responsibilities"] == "texts"
    assert simulated.account["sites"] == "texts"
    assert not list(tmp_path.iterdir())
