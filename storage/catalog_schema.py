"""The JSON Schema of a catalogue file, for editors: completion, and mistakes while typing."""

from functools import cache
from typing import Any

import msgspec

from decisioning.content import Content

# The loader fills these in.
_NOT_WRITTEN = ("market", "market_currency", "features")


@cache
def catalog_schema() -> dict[str, Any]:
    """What one file may hold: some of the fields of `decisioning.content.Content`, all of them optional."""
    schema = msgspec.json.schema(Content)
    definitions = schema["$defs"]
    content = definitions.pop("Content")
    properties = {name: spec for name, spec in content["properties"].items() if name not in _NOT_WRITTEN}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A file of a Nextmove catalogue",
        "description": content.get("description", ""),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }
