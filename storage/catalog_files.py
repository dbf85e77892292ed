"""A domain's catalogue: YAML files merged into one `Content`, checked, compiled, and as bytes.

Every file in `<domain>/global/` holds some of the fields of `decisioning.catalog.Content`. Lists
that stand in several files are joined, in the order of the files' names.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from decisioning.catalog import Catalog, Content
from decisioning.errors import CatalogError
from storage.yaml_file import YamlFile, YamlMistake

FOLDER = "global"
_FIELDS = {field.name: field for field in msgspec.structs.fields(Content)}


def catalog_pointer(domain: str) -> str:
    """The pointer to the catalogue that a domain is served with."""
    return f"catalog/{domain}"


def read_catalog(directory: Path) -> tuple[bytes, Catalog]:
    """The catalogue in `directory` (`catalog/<domain>`), and its content as canonical JSON.

    Raises:
        CatalogError: With every mistake in every file, each with its file and line.
    """
    files, mistakes = _read_files(directory / FOLDER)
    values, found = _merge(files)
    mistakes += found
    if not mistakes:
        mistakes += [
            f"{name}: is missing; write it into a file in {directory / FOLDER}"
            for name, field in _FIELDS.items()
            if field.required and name not in values
        ]
    if mistakes:
        raise CatalogError(mistakes)
    blob = msgspec.json.encode(Content(**values), order="deterministic")
    try:
        return blob, decode_catalog(blob)
    except CatalogError as error:
        raise CatalogError([_with_line(files, mistake) for mistake in error.mistakes]) from error


def decode_catalog(blob: bytes) -> Catalog:
    """The catalogue in these bytes; its version is their hash.

    Raises:
        CatalogError: They hold no usable catalogue.
    """
    try:
        content = msgspec.json.decode(blob, type=Content)
    except msgspec.MsgspecError as error:
        sentence, path = _sentence(error)
        raise CatalogError([f"{path}: {sentence}" if path else sentence]) from error
    return Catalog(content, version=f"sha256:{hashlib.sha256(blob).hexdigest()}")


def _read_files(folder: Path) -> tuple[list[YamlFile], list[str]]:
    if not folder.is_dir():
        return [], [f"{folder}: there is no such folder; a catalogue is a folder of .yaml files"]
    files: list[YamlFile] = []
    mistakes = [f"{path}: the name ends in .yml, must end in .yaml" for path in sorted(folder.glob("*.yml"))]
    for path in sorted(folder.glob("*.yaml")):
        try:
            files.append(YamlFile(path, name=f"{folder.parent.name}/{folder.name}/{path.name}"))
        except YamlMistake as error:
            mistakes += error.mistakes
    if not files and not mistakes:
        mistakes.append(f"{folder}: holds no .yaml file; a catalogue needs at least one")
    return files, mistakes


def _merge(files: list[YamlFile]) -> tuple[dict[str, Any], list[str]]:
    """Converted values by field of `Content`, and what could not be converted."""
    merged: dict[str, Any] = {}
    said_in: dict[str, YamlFile] = {}
    mistakes: list[str] = []
    for file in files:
        for name, value in file.values.items():
            if name not in _FIELDS:
                mistakes.append(f"{file.at(name)}: '{name}' is not known, must be one of {', '.join(_FIELDS)}")
                continue
            kind = _FIELDS[name].type
            if get_origin(kind) is tuple:
                entries, found = _converted_list(file, name, value, kind)
                merged[name] = (*merged.get(name, ()), *entries)
                mistakes += found
                continue
            converted = _converted(file, name, value, kind, mistakes)
            if name in said_in and converted != merged[name]:
                mistakes.append(
                    f"{file.at(name)}: {name}: is {converted!r}, but {merged[name]!r} in {said_in[name].at(name)}"
                )
            merged[name], said_in[name] = converted, file
    return merged, mistakes


def _converted_list(file: YamlFile, name: str, value: Any, kind: Any) -> tuple[list[Any], list[str]]:
    if value is None:
        return [], []  # a key whose entries are all commented out
    if not isinstance(value, list):
        return [], [f"{file.at(name)}: {name}: is {type(value).__name__}, must be a list"]
    mistakes: list[str] = []
    entries = []
    for place, entry in enumerate(value):
        path = f"{name}[{place}]"
        entries.append(_converted(file, path, entry, get_args(kind)[0], mistakes))
    return entries, mistakes


def _converted(file: YamlFile, path: str, value: Any, kind: Any, mistakes: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        sentence, inner = _sentence(error)
        unknown = re.search(r"unknown field `(\w+)`", sentence)
        line = file.at(f"{path}.{inner}.{unknown.group(1)}" if unknown else f"{path}.{inner}")
        identity = value.get("id") if isinstance(value, dict) else None
        shown = path.split("[")[0] + f"[{identity}]" if isinstance(identity, str) else path
        mistakes.append(f"{line}: {shown}{'.' if inner and inner[0] != '[' else ''}{inner}: {sentence}")
        return None


def _sentence(error: Exception) -> tuple[str, str]:
    """Msgspec's sentence and the path it is about, without the root."""
    sentence, _, path = str(error).partition(" - at `")
    return sentence[:1].lower() + sentence[1:], path.rstrip("`").removeprefix("$").removeprefix(".")


def _with_line(files: list[YamlFile], mistake: str) -> str:
    """The mistake with the line of the entry that its path names, in whichever file has it."""
    path, colon, _ = mistake.partition(": ")
    entry = re.match(r"(\w+)\[([^\]]+)\]", path)
    if not colon or entry is None:
        return mistake
    for file in files:
        ids = [item.get("id") for item in file.values.get(entry.group(1)) or []]
        if entry.group(2) in ids:
            return f"{file.at(path)}: {mistake}"
    return mistake
