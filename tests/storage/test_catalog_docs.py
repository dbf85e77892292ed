"""What `docs/catalogue.md` shows can be written into a catalogue."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from decisioning.rule_types import RuleTypes
from decisioning.rules import expanded
from storage.catalog_schema import catalog_schema
from storage.yaml_file import plain, read_yaml
from training.features import declared_features

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
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


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_follows_the_schema(block: str, tmp_path: Path) -> None:
    # Through JSON, since editors see a time as the text that it is written as.
    said = json.loads(json.dumps(values_of(block, tmp_path), default=lambda at: at.isoformat()))
    jsonschema.validate(said, catalog_schema())


def test_every_rule_in_it_names_features_that_the_simulated_shop_has(tmp_path: Path) -> None:
    types = RuleTypes(declared_features("simulated"))
    rules = [rule for block in BLOCKS for rule in rules_in(values_of(block, tmp_path))]
    assert len(rules) > 5
    for rule in rules:
        types.checked(expanded(rule, action={}, audience=lambda audience_id: "true"))
