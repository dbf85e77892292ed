"""YAML's values as the catalogue's: every mistake on the way, each with its file, line and path."""

import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from decisioning.content import Content
from decisioning.content_types import Currency, EndOfDay, HeaderName, Id, ItemPath, Locale, TimeOfDay
from storage.yaml_file import Node, plain, type_name

# What the loader says, not the files.
_NOT_IN_FILES = ("market", "market_currency", "features")
FIELDS: dict[str, msgspec.structs.FieldInfo] = {
    field.name: field for field in msgspec.structs.fields(Content) if field.name not in _NOT_IN_FILES
}


def _pattern(kind: Any) -> str:
    return next(str(meta.pattern) for meta in get_args(kind)[1:] if isinstance(meta, msgspec.Meta))


# What msgspec calls them, for people.
_WORDS = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "keys and values", "datetime": "a time", "date": "a day like 2026-11-20",
}  # fmt: skip
_LIKE = {
    _pattern(TimeOfDay): "a time of day like 21:30",
    _pattern(EndOfDay): "a time of day like 21:30",
    _pattern(Currency): "a currency like EUR",
    _pattern(Locale): "a language like de or de-AT",
    _pattern(ItemPath): "names with a dot between two, like properties.decision_id",
    _pattern(HeaderName): "a header like X-Signature",
    _pattern(Id): "of letters, digits, '_', '.' and '-', and begin with a letter or digit",
}


def catalog_values(root: Node, mistakes: list[str]) -> dict[str, Any]:
    """Converted values by field of `Content`, without those that are wrong."""
    values: dict[str, Any] = {}
    for name, node in root.value.items():
        if name not in FIELDS:
            mistakes.append(f"{node.at}: '{name}' is not known, must be one of {', '.join(FIELDS)}")
        elif not (node.value is None and is_list(FIELDS[name].type)):  # a key whose entries are all commented out
            found = len(mistakes)
            value = _converted(node, FIELDS[name].type, name, mistakes)
            if len(mistakes) == found:
                values[name] = value
    return values


def is_list(kind: Any) -> bool:
    """Whether a field holds a list."""
    return get_origin(_bare(kind)) is tuple


def _converted(node: Node, kind: Any, path: str, mistakes: list[str]) -> Any:
    try:
        return msgspec.convert(plain(node), kind)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        found = len(mistakes)
        _descend(node, _bare(kind), path, mistakes)
        if len(mistakes) == found:
            mistakes.append(f"{node.at}: {path}: {_said(node, _bare(kind), error)}")
        return None


def _descend(node: Node, kind: Any, path: str, mistakes: list[str]) -> None:
    """Look for the mistakes inside a value: msgspec stops at the first."""
    kind = _tagged(node, kind, path, mistakes)
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(node.value, list) and origin is tuple:
        for place, item in enumerate(node.value):
            _converted(item, inner[0], f"{path}[{item.identity or place}]", mistakes)
    elif isinstance(node.value, dict) and origin is dict:
        for key, item in node.value.items():
            _converted(Node(item.at, key), inner[0], f"{path}.{key}", mistakes)
            _converted(item, inner[1], f"{path}.{key}", mistakes)
    elif isinstance(node.value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag_field
        for name, item in node.value.items():
            if name == tag:
                continue
            if name in fields:
                _converted(item, fields[name].type, f"{path}.{name}", mistakes)
            else:
                mistakes.append(f"{item.at}: {path}: '{name}' is not known, must be one of {', '.join(fields)}")
        mistakes += [
            f"{node.at}: {path}.{name}: is missing"
            for name, field in fields.items()
            if field.required and name not in node.value
        ]


def _tagged(node: Node, kind: Any, path: str, mistakes: list[str]) -> Any:
    """Of several kinds of a thing the one that the value says it is: `policy: squarecb`."""
    if get_origin(kind) not in (Union, types.UnionType) or not isinstance(node.value, dict):
        return kind
    kinds: dict[str, Any] = {
        each.__struct_config__.tag: each for each in get_args(kind) if hasattr(each, "__struct_config__")
    }
    if len(kinds) != len(get_args(kind)):
        return kind
    field = next(iter(kinds.values())).__struct_config__.tag_field
    said = node.value.get(field)
    if said is None:
        mistakes.append(f"{node.at}: {path}.{field}: is missing, must be one of {', '.join(kinds)}")
    elif said.value not in kinds:
        mistakes.append(f"{said.at}: {path}.{field}: is {_shown(said)}, must be one of {', '.join(kinds)}")
    else:
        return kinds[said.value]
    return None


def _bare(kind: Any) -> Any:
    """The type without its constraints, and without an alternative of nothing."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [each for each in get_args(kind) if each is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else kind
    return kind


def _said(node: Node, kind: Any, error: Exception) -> str:
    """What it is, what it must be, and what to do."""
    if get_origin(kind) is Literal:
        return f"is {_shown(node)}, must be one of {', '.join(map(str, get_args(kind)))}"
    sentence, _, inner = str(error).partition(" - at `")
    where = inner.rstrip("`").removeprefix("$").removeprefix(".")
    if not where and (choices := _choices(kind)):
        return f"is {_shown(node)}, must be {' or '.join(choices)}"
    expected = re.fullmatch(r"Expected `([^`]*)`(?:, got `[^`]*`)?( .*)?", sentence)
    if expected:
        kinds = " or ".join(_WORDS.get(each, each) for each in expected[1].split(" | ") if each != "null")
        pattern = re.fullmatch(r" matching regex '(.*)'", expected[2] or "")
        like = _LIKE.get(pattern[1].replace("\\\\", "\\")) if pattern else None
        sentence = f"must be {like or kinds + (expected[2] or '')}"
    else:
        sentence = f"{sentence[:1].lower()}{sentence[1:]}"
    sentence = f"is {_shown(node)}, {f'{where} ' if where else ''}{sentence}"
    if "duration" in sentence:
        return f"{sentence}; write it like P7D or PT30M"
    if sentence.endswith("must be a time") or "RFC3339" in sentence:
        return f"{sentence}; write it like 2026-11-21T18:00:00Z"
    if node.written and not isinstance(node.value, str) and "a text" in sentence:
        return f"{sentence}; YAML reads it as {_read_as(node.value)}: quote it, like '{node.written}'"
    return sentence


def _choices(kind: Any) -> list[str]:
    """Of a word or keys, what may be written: `pull`, `{webhook: ...}`; nothing for other kinds."""
    if get_origin(kind) not in (Union, types.UnionType):
        return []
    words = [word for each in get_args(kind) if get_origin(each) is Literal for word in get_args(each)]
    keys = [", ".join(each.__struct_fields__) for each in get_args(kind) if hasattr(each, "__struct_fields__")]
    return [*words, *(f"{{{fields}: ...}}" for fields in keys)] if words and keys else []


def _read_as(value: Any) -> str:
    return f"the number {value}" if type_name(value) == "a number" else type_name(value)


def _shown(node: Node) -> str:
    if isinstance(node.value, dict | list) or node.value is None:
        return type_name(node.value)
    return repr(node.value)[:80] if isinstance(node.value, str) else node.written[:80]
