"""OpenFeature's own SDK for Python, with its provider for remote evaluation, reads experiments as flags."""

import json
import re
from pathlib import Path
from typing import Any

from decisioning.experiment_content import Variant
from tests.builders import experiment, release
from tests.clients.conftest import Site

EVALUATES = """
import json, os
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

key = os.environ["KEY"] + WRONG
api.set_provider(OFREPProvider(os.environ["URL"], headers_factory=lambda: {"Authorization": f"Bearer {key}"}))
client = api.get_client()

def told(details):
    metadata = dict(details.flag_metadata)
    code = details.error_code and details.error_code.value
    return [details.value, details.variant, details.reason and str(details.reason.value), code, metadata]

whom = EvaluationContext(CONTEXT)
print(json.dumps({
    "boolean": told(client.get_boolean_details("banner", False, whom)),
    "string": told(client.get_string_details("headline", "Hello", whom)),
    "integer": told(client.get_integer_details("columns", 1, whom)),
    "float": told(client.get_float_details("discount", 0.5, whom)),
    "object": told(client.get_object_details("hero_copy", {}, whom)),
    "without a payload": told(client.get_string_details("bare", "default", whom)),
    "no part": told(client.get_string_details("adults", "default", whom)),
    "stopped": told(client.get_boolean_details("over", False, whom)),
    "unknown": told(client.get_boolean_details("boat", True, whom)),
    "of another type": told(client.get_boolean_details("headline", True, whom)),
}))
"""
GUIDE = (Path(__file__).parents[2] / "docs" / "assignments.md").read_text(encoding="utf-8")
PAYLOADS: dict[str, dict[str, Any]] = {
    "banner": {"value": True},
    "headline": {"value": "New"},
    "columns": {"value": 3},
    "discount": {"value": 0.25},
    "hero_copy": {"tone": "bold", "words": ["a", "b"]},
    "bare": {},
}


def flags(
    site: Site, context: str = '"c-1", {"device": "mobile", "cart_value": 20.0}', wrong: str = ""
) -> dict[str, Any]:
    """What the client says of each flag: value, variant, reason, error code and metadata."""
    running = [experiment(id=name, variants=(Variant(id="b", payload=each),)) for name, each in PAYLOADS.items()]
    site.shop.engine.release = release(
        experiments=(
            *running,
            experiment(id="adults", eligibility="customer.age > 50.0"),
            experiment(id="over", status="stopped"),
        )
    )
    script = EVALUATES.replace("CONTEXT", context).replace("WRONG", repr(wrong))
    found: dict[str, Any] = json.loads(site.play(script))
    return found


def test_every_kind_of_flag_is_read_with_its_variant(site: Site) -> None:
    found, split = flags(site), ["b", "SPLIT", None, {"version": 1}]
    for kind, value in (("boolean", True), ("string", "New"), ("integer", 3), ("float", 0.25)):
        assert found[kind] == [value, *split]
    assert found["object"] == [PAYLOADS["hero_copy"], *split]
    assert found["without a payload"] == ["default", *split]


def test_who_takes_no_part_gets_the_default_of_the_code_and_that_is_no_error(site: Site) -> None:
    found = flags(site)
    assert found["no part"] == ["default", "", "STATIC", None, {"version": 1}]
    assert found["stopped"] == [False, "", "DISABLED", None, {"version": 1}]


def test_the_guide_s_example_works(site: Site) -> None:
    site.shop.engine.release = release(experiments=(experiment(testers={"c-00123": "b"}),))
    [example] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    for said, here in (('"http://localhost:3000"', 'os.environ["URL"]'), ('"nm_..."', 'os.environ["KEY"]')):
        assert said in example
        example = example.replace(said, here)
    assert site.play(f"import os\n{example}") == "{'tone': 'bold'} b TARGETING_MATCH\n"


def test_what_is_wrong_gives_the_default_and_says_why(site: Site) -> None:
    found = flags(site)
    assert found["unknown"][:4] == [True, None, "ERROR", "FLAG_NOT_FOUND"]
    assert found["of another type"][:4] == [True, None, "ERROR", "TYPE_MISMATCH"]
    for context, code in (("", "TARGETING_KEY_MISSING"), ('"c-1", {"cart": ["sofa"]}', "INVALID_CONTEXT")):
        assert flags(site, context)["boolean"][:4] == [False, None, "ERROR", code]
    assert flags(site, wrong="x")["boolean"][:4] == [False, None, "ERROR", "GENERAL"]
