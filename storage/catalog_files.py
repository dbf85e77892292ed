"""A domain's catalogues: YAML files merged into one `Content` a market, checked, compiled, and as bytes.

`<domain>/global/*.yaml` is the blueprint, `<domain>/markets/<id>/*.yaml` says what is different in a
market. Every file holds some of the fields of `decisioning.content.Content`. Lists that stand in
several files of a folder are joined, in the order of the files' names.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from decisioning.catalog import Release
from decisioning.content import Content, FeatureTypes
from decisioning.content_types import BLUEPRINT, Id
from decisioning.errors import CatalogError
from decisioning.event_content import EventFeature
from decisioning.experiment_checks import moved
from storage.catalog_markets import Overlay, budget_mistakes, lock_mistakes, market_values, overlaid
from storage.catalog_values import FIELDS, catalog_values, is_list
from storage.yaml_file import Node, YamlMistake, line_of, plain, read_yaml

FOLDER = "global"
MARKETS = "markets"
# A market is one of the blueprint's company: it has no domain of its own, does not unlock, and shares
# the customers, of whom each has one history of events, and the providers that write to them.
_BLUEPRINT_ONLY = ("domain", "locked", "hooks", "event_features")
_OF_MARKET = re.compile(r"market ([^\s:]+): (.*)", re.DOTALL)


@dataclass(slots=True)
class Sources:
    """What a domain's files say, by market, as one tree each whose values know their lines.

    Attributes:
        unread: Mistakes because of which a file was not read: what it says is not known.
        mistakes: Other mistakes.
    """

    directory: Path
    blueprint: Node = field(default_factory=lambda: Node("", {}))
    markets: dict[str, Overlay] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def line(self, market: str, path: str) -> str:
        """`file:line` of what decides this in the market: its own file's, else the blueprint's."""
        return line_of(self.markets[market].root if market in self.markets else self.blueprint, path)


def catalog_pointer(domain: str) -> str:
    """The pointer to the catalogue that a domain is served with."""
    return f"catalog/{domain}"


def read_release(directory: Path, *, features: FeatureTypes | None = None) -> tuple[bytes, Release]:
    """The catalogues in `directory` (`catalog/<domain>`), and their contents as canonical JSON.

    `features` are those that rules may name; without, names are not checked.

    Raises:
        CatalogError: With every mistake in every file, each with its file and line.
    """
    return release_of(read_sources(directory), features=features)


def read_sources(directory: Path) -> Sources:
    """What the files in `directory` say, with what is wrong about them as YAML."""
    sources = Sources(directory)
    sources.blueprint = _read_folder(directory / FOLDER, f"{directory.name}/{FOLDER}", sources)
    sources.mistakes += _strays(directory)
    for folder in _market_folders(directory / MARKETS, sources.mistakes):
        files = _read_folder(folder, f"{directory.name}/{MARKETS}/{folder.name}", sources)
        for name in _BLUEPRINT_ONLY:
            if name in files.value:
                sources.mistakes.append(f"{files.value[name].at}: {name}: is the blueprint's alone; take it out here")
        said = Node(files.at, {name: node for name, node in files.value.items() if name not in _BLUEPRINT_ONLY})
        overlay = overlaid(sources.blueprint, said)
        sources.markets[folder.name] = overlay
        sources.mistakes += overlay.mistakes + lock_mistakes(overlay, sources.blueprint.value.get("locked"))
    sources.mistakes += budget_mistakes(sources.blueprint, sources.markets)
    return sources


def release_of(sources: Sources, *, features: FeatureTypes | None = None) -> tuple[bytes, Release]:
    """The catalogues that the files say, and their contents as canonical JSON.

    Raises:
        CatalogError: See `read_release`.
    """
    mistakes = [*sources.unread, *sources.mistakes]
    contents = _contents(sources, features, mistakes)
    blob = msgspec.json.encode(contents, order="deterministic")
    try:
        release = decode_release(blob) if BLUEPRINT in contents else None
    except CatalogError as error:
        release = None
        mistakes += _with_lines(sources, error.mistakes)
    if release is None or mistakes:
        raise CatalogError(list(dict.fromkeys(mistakes)))
    return blob, release


def moved_units(sources: Sources, release: Release, *, served: Release, now: datetime) -> list[str]:
    """What units would move by in experiments that have begun, of every market, each with its file and line.

    `release` is what the files say; see `experiment_checks.moved`.
    """
    said = [
        mistake if market == BLUEPRINT else f"market {market}: {mistake}"
        for market, catalog in release.markets.items()
        if market in served.markets
        for mistake in moved(served.markets[market].content, catalog.content, now=now)
    ]
    return _with_lines(sources, said)


def declared_event_features(directory: Path) -> tuple[EventFeature, ...]:
    """The features over events that the files in `directory` declare; none while they are wrong.

    For Feast's definitions, which are needed before a catalogue can be checked as a whole.
    """
    sources = Sources(directory)
    files = _read_folder(directory / FOLDER, f"{directory.name}/{FOLDER}", sources)
    said = {name: node for name, node in files.value.items() if name == "event_features"}
    declared: tuple[EventFeature, ...] = catalog_values(Node(files.at, said), sources.mistakes).get(
        "event_features", ()
    )
    return declared


def decode_release(blob: bytes, *, domain: str | None = None) -> Release:
    """The catalogues in these bytes, by market; their version is their hash.

    An older version released one catalogue, without markets: it is the blueprint, and the market that its
    decisions name.

    Raises:
        CatalogError: They hold no usable catalogue, or one that is not of `domain`.
    """
    version = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    try:
        contents = msgspec.json.decode(blob, type=dict[str, Content])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if not _is_without_markets(blob):
            raise CatalogError([f"the released catalogue cannot be read: {error}"]) from error
        release = _release_without_markets(blob, version)
    else:
        if BLUEPRINT not in contents:
            raise CatalogError([f"there is no '{BLUEPRINT}' catalogue in it"])
        release = Release(contents, version=version)
    if domain is not None and release.domain != domain:
        raise CatalogError([f"catalogue {version[7:19]} is of '{release.domain}', must be of '{domain}'"])
    return release


def _is_without_markets(blob: bytes) -> bool:
    try:
        found = msgspec.json.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("domain"), str)


def _release_without_markets(blob: bytes, version: str) -> Release:
    try:
        content = msgspec.json.decode(blob, type=Content)
        contents = {BLUEPRINT: msgspec.structs.replace(content, market=BLUEPRINT), content.market: content}
        return Release(contents, version=version)
    except (msgspec.MsgspecError, CatalogError) as error:
        said = error.mistakes if isinstance(error, CatalogError) else [str(error)]
        older = "it was released by an older version, and this one asks for more; run: nextmove catalog release"
        raise CatalogError([older, *said]) from error


def _read_folder(folder: Path, shown: str, sources: Sources) -> Node:
    """The folder's files as one mapping; `shown` is what messages call the folder."""
    if not folder.is_dir():
        sources.unread.append(f"{folder}: there is no such folder; a catalogue is a folder of .yaml files")
        return Node(shown, {})
    sources.unread += [f"{path}: the name ends in .yml, must end in .yaml" for path in sorted(folder.glob("*.yml"))]
    files: list[Node] = []
    paths = sorted(folder.glob("*.yaml"))
    for path in paths:
        try:
            files.append(read_yaml(path, name=f"{shown}/{path.name}"))
        except YamlMistake as error:
            sources.unread += error.mistakes
    if not paths and not sources.unread:
        sources.unread.append(f"{folder}: holds no .yaml file; a catalogue needs at least one")
    return Node(shown, _joined(files, sources.mistakes))


def _joined(files: list[Node], mistakes: list[str]) -> dict[str, Node]:
    merged: dict[str, Node] = {}
    for file in files:
        for name, node in file.value.items():
            before = merged.get(name)
            listed = name in FIELDS and is_list(FIELDS[name].type)
            if before is None or (listed and before.value is None):
                merged[name] = node
            elif listed and isinstance(before.value, list) and isinstance(node.value, list):
                merged[name] = Node(before.at, [*before.value, *node.value])
            elif not (listed and node.value is None) and plain(before) != plain(node):
                mistakes.append(f"{node.at}: {name}: is {plain(node)!r}, but {plain(before)!r} in {before.at}")
    return merged


def _market_folders(folder: Path, mistakes: list[str]) -> list[Path]:
    """The markets' folders; whatever else lies there is a mistake."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            mistakes.append(f"{path}: must lie in a market's folder, like {folder / 'de' / path.name}")
        elif path.name == BLUEPRINT:
            mistakes.append(f"{path}: '{BLUEPRINT}' is the blueprint's name, give the market another")
        else:
            try:
                msgspec.convert(path.name, Id)
                found.append(path)
            except msgspec.ValidationError:
                mistakes.append(
                    f"{path}: '{path.name}' is no market id; letters, digits, '_', '.' and '-' may be in it"
                )
    return found


def _strays(directory: Path) -> list[str]:
    """Files that nobody would read."""
    places = [path for depth in ("", "*/", "*/*/") for path in directory.glob(f"{depth}*.y*ml")]
    read = (directory / FOLDER, directory / MARKETS, *(directory / MARKETS).glob("*"))
    return [
        f"{path}: is in no folder that is read; put it into {directory / FOLDER} or {directory / MARKETS / '<id>'}"
        for path in sorted(places)
        if path.parent not in read
    ]


def _contents(sources: Sources, features: FeatureTypes | None, mistakes: list[str]) -> dict[str, Content]:
    """The contents without mistakes, each of its market; those of the others are told."""
    if sources.unread:
        catalog_values(sources.blueprint, mistakes)  # what is missing may stand in the file that cannot be read
        return {}
    contents: dict[str, Content] = {}
    found: list[str] = []
    blueprint = _complete(sources.blueprint, found)
    mistakes += found
    if not found:
        contents[BLUEPRINT] = Content(**blueprint, features=features)
        if blueprint["domain"] != sources.directory.name:
            at = sources.line(BLUEPRINT, "domain")
            mistakes.append(f"{at}: domain: is '{blueprint['domain']}', must be '{sources.directory.name}', the folder")
    for market, overlay in sources.markets.items():
        found = []
        own = _complete(overlay.root, found)
        mistakes += found
        if contents and not found:
            said = market_values(own, overlay, market=market, currency=blueprint["currency"])
            contents[market] = Content(**said, features=features)
    return contents


def _complete(root: Node, mistakes: list[str]) -> dict[str, Any]:
    """The converted fields; a required one that no file says is a mistake."""
    found = len(mistakes)
    values = catalog_values(root, mistakes)
    if len(mistakes) == found:
        mistakes += [
            f"{name}: is missing; write it into a file in {root.at}"
            for name, each in FIELDS.items()
            if each.required and name not in values
        ]
    return values


def _with_lines(sources: Sources, mistakes: list[str]) -> list[str]:
    """The catalogue's mistakes with their lines; what a market inherits is told once, of the blueprint."""
    told = {mistake for mistake in mistakes if not _OF_MARKET.fullmatch(mistake)}
    lined: list[str] = []
    for mistake in sorted(mistakes, key=lambda mistake: mistake not in told):  # the blueprint's first
        of_market = _OF_MARKET.fullmatch(mistake)
        market, said = (of_market[1], of_market[2]) if of_market else (BLUEPRINT, mistake)
        path = said.partition(": ")[0]
        if market == BLUEPRINT or said not in told:
            lined.append(f"{sources.line(market, path)}: {mistake}")
    return lined
