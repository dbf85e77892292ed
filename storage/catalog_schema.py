"""The JSON Schema of a catalogue's YAML files, for editors; made from `decisioning.content`."""

import re
from typing import Any

import msgspec

from decisioning import content, event_content, exploration
from storage.catalog_values import FIELDS, is_list

_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", re.MULTILINE)


def catalog_schema() -> dict[str, Any]:
    """The schema of one file, of the blueprint's or of a market's.

    A file may hold any of the fields. Of an entry it demands the id alone, since a market says only
    what is different; that a blueprint's entry is whole, `nextmove catalog check` sees.
    """
    kinds = [field.type for field in FIELDS.values()]
    schemas, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    described = _described(content.Content)
    properties = {}
    for field, kind in zip(FIELDS.values(), schemas, strict=True):
        said = {"anyOf": [kind, {"type": "null"}]} if is_list(field.type) else kind
        description = described.get(field.name)
        properties[field.name] = {**said, "description": description} if description else said
    for name, definition in definitions.items():
        _tidy(definition, _kind_of(name))
    schema = {
        "$schema": _SCHEMA,
        "title": "A file of a Nextmove catalogue",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }
    # As a reader of the committed file has it: lists, no tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    return plain


def _kind_of(name: str) -> type | None:
    modules = (content, event_content, exploration)
    return next((kind for module in modules if (kind := getattr(module, name, None)) is not None), None)


def _tidy(definition: dict[str, Any], kind: type | None) -> None:
    properties = definition.get("properties")
    if properties is None:
        return
    if "id" in properties:
        definition["required"] = ["id"]
    elif "policy" in properties:
        definition.pop("required", None)
    if kind is None:
        return
    definition["description"] = _summary(kind)
    for name, description in _described(kind).items():
        if name in properties:
            properties[name] = {**properties[name], "description": description}


def _summary(kind: type) -> str:
    """The docstring before its sections, without examples."""
    text = re.split(r"\n\s*(?:Attributes:|>>>|Raises:)", kind.__doc__ or "")[0]
    return " ".join(text.split())


def _described(kind: type) -> dict[str, str]:
    """What the docstring's section `Attributes` says of each."""
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(kind.__doc__ or "")}
