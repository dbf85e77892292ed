"""What `docs/catalogue.md` shows can be written into a catalogue."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from decisioning.catalog import Release, localised
from decisioning.rule_types import RuleTypes
from decisioning.rules import expanded
from storage.catalog_files import read_release
from storage.catalog_schema import catalog_schema
from storage.yaml_file import plain, read_yaml
from training.features import declared_features

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [(DOCS / name).read_text(encoding="utf-8") for name in ("catalogue.md", "monitoring.md", "experiments.md")]
GUIDE = PAGES[0]
BLOCKS, OF_MONITORING, OF_EXPERIMENTS = (re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for page in PAGES)
# What a catalogue needs besides what the guide shows.
SHOP = """\
domain: simulated
groups: [fashion, home, services]
goals: [sell]
channels: [{id: web}, {id: email, requires_consent: marketing}]
placements: [{id: home_hero, channel: web, reward: {accept: 1.0}, priority_scale: 10.0}]
"""
RULES = ("eligibility", "applicability", "suitability", "when", "entry", "exit", "rule")


def values_of(block: str, folder: Path) -> dict[str, Any]:
    file = folder / "block.yaml"
    file.write_text(block, encoding="utf-8")
    return dict(plain(read_yaml(file, name="block")))


def rules_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [rule for item in value for rule in rules_in(item)]
    if not isinstance(value, dict):
        return []
    own = [text for name, text in value.items() if name in RULES and isinstance(text, str)]
    return own + [rule for item in value.values() for rule in rules_in(item)]


@pytest.mark.parametrize("block", [*BLOCKS, *OF_MONITORING, *OF_EXPERIMENTS])
def test_every_example_follows_the_schema(block: str, tmp_path: Path) -> None:
    # Through JSON, since editors see a time as the text that it is written as.
    said = json.loads(json.dumps(values_of(block, tmp_path), default=lambda at: at.isoformat()))
    jsonschema.validate(said, catalog_schema())


def test_every_rule_in_it_names_features_that_the_simulated_shop_has(tmp_path: Path, whole: Release) -> None:
    types = RuleTypes(whole.blueprint.features)
    rules = [rule for block in BLOCKS for rule in rules_in(values_of(block, tmp_path))]
    assert len(rules) > 5
    for rule in rules:
        types.checked(expanded(rule, action={}, audience=lambda audience_id: "true"))


@pytest.fixture
def whole(tmp_path: Path) -> Release:
    """All examples as one catalogue, each in the file that it names, or in one of its own."""
    folder = tmp_path / "simulated"
    for number, block in enumerate(BLOCKS):
        named = re.match(r"# ((?:global|markets)/\S+\.yaml)\n", block)
        file = folder / (named[1] if named else f"global/block_{number}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block, encoding="utf-8")
    (folder / "global" / "needed.yaml").write_text(SHOP, encoding="utf-8")
    de = folder / "markets" / "de"
    de.mkdir()
    (de / "market.yaml").write_text("language: de\n", encoding="utf-8")
    return read_release(folder, features=declared_features("simulated"))[1]


def test_the_examples_together_are_a_catalogue(whole: Release) -> None:
    assert set(whole.markets) == {"global", "de", "ch"}
    ours, swiss = whole.blueprint, whole.of("ch")
    for market in (ours, swiss):
        [live] = market.offered(market.placements["home_hero"]).live
        assert live.action.id == "winter_coat"
        assert live.treatment is not None
        assert live.treatment.id == "winter_coat_hero"
    values = [m.offered(m.placements["home_hero"]).live[0].value for m in (ours, swiss)]
    assert values == [14.0, pytest.approx(21.0 * 1.05)]
    assert swiss.actions["site_rollout"].status == "draft"


@pytest.mark.parametrize(
    ("locale", "headline"),
    [("de-AT", "Warm bis Freitag"), ("de", "Warm bis Freitag"), ("fr", "Warm bis Freitag")],
)
def test_the_content_falls_back_to_the_markets_language(whole: Release, locale: str, headline: str) -> None:
    treatment = whole.of("ch").actions["winter_coat"].treatments[0]
    assert localised(treatment, (locale, whole.of("ch").content.language))["headline"] == headline


def test_the_features_over_events_are_called_as_the_guide_says(whole: Release) -> None:
    section = GUIDE.partition("## What customers did")[2].partition("\n## ")[0]
    features = whole.of("ch").features
    assert features is not None
    derived = [each.name for feature in whole.blueprint.content.event_features for each in feature.derived()]
    assert set(derived) <= set(features.customer)
    assert set(re.findall(r"`(\w+_\w+)`", section)) & set(derived) == set(derived)


def test_where_a_locale_is_not_written_the_content_is_as_it_stands(whole: Release) -> None:
    treatment = whole.blueprint.actions["winter_coat"].treatments[0]
    assert localised(treatment, ("fr", whole.blueprint.content.language))["headline"] == "Warm by Friday"
