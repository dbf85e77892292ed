"""Everything that is held on a person as one JSON document, made while it is sent: there may be much of it."""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine

from storage.hot_state.erasing import hot_parts
from storage.privacy.feature_rows import FeatureRows
from storage.privacy.files import NamingFiles
from storage.privacy.ledger_rows import LedgerRows
from storage.settings import Settings

Parts = Iterator[tuple[str, Iterator[dict[str, Any]]]]


class Place(NamedTuple):
    """Where something is kept, what for, and how long."""

    name: str
    kept_in: str
    why: str
    kept_for: str


LEDGER = Place("ledger", "the ledger", "the record of what was decided, told and consented to", "see docs/privacy.md")
FOR_EVER = "as long as the person is a customer"
PLACES: tuple[tuple[Place, Callable[[Settings, Engine, Collection[str]], Parts]], ...] = (
    (LEDGER, lambda settings, engine, units: LedgerRows(engine, settings.domain, units).parts()),
    (
        Place("hot_state", "hot state, made from the ledger", "to decide by what holds at this instant", FOR_EVER),
        lambda settings, _, units: hot_parts(settings, units),
    ),
    (
        Place("features", "Feast's stores, online and offline", "to decide by, and to learn from", FOR_EVER),
        lambda settings, _, units: FeatureRows(settings, units).parts(),
    ),
    (
        Place("files", "the state directory", "rows of files that could not be taken in", "until they are corrected"),
        lambda settings, _, units: NamingFiles(settings, units).parts(),
    ),
)
# Of a table of the ledger: what it is for, and the setting that says for how long, if one does.
_TABLES = {
    "decisions": ("what was decided, and by what", "retention_days_decisions"),
    "outcomes": ("what came of it", "retention_days_decisions"),
    "consents": ("to prove what was consented to", None),
    "preferences": ("to keep to what was wished", None),
    "events": ("to decide by what was done elsewhere", "retention_days_events"),
    "moments": ("to answer what was done elsewhere", "retention_days_moments"),
    "audit": ("to know who did what", "retention_days_audit"),
}


def holds_anything(settings: Settings, engine: Engine, units: Collection[str]) -> bool:
    """Whether there is anything to export.

    Raises:
        StoreError: That cannot be read.
    """
    return any(True for _, parts_of in PLACES for _, items in parts_of(settings, engine, units) for _ in items)


def export(settings: Settings, engine: Engine, units: Collection[str], *, now: datetime) -> Iterator[bytes]:
    """The document, in pieces.

    Raises:
        StoreError: Something of it cannot be read.
    """
    head = msgspec.json.encode({"exported_at": now, "domain": settings.domain, "ids": sorted(units)})
    yield head[:-1] + b',"parts":['
    first = True
    for place, parts_of in PLACES:
        for name, items in parts_of(settings, engine, units):
            yield b"" if first else b","
            first = False
            yield msgspec.json.encode(_about(settings, place, name))[:-1] + b',"items":['
            for number, item in enumerate(items):
                yield (b"," if number else b"") + msgspec.json.encode(item, enc_hook=str)
            yield b"]}"
    yield b"]}"


def _about(settings: Settings, place: Place, name: str) -> dict[str, str]:
    why, kept_for = place.why, place.kept_for
    if place is LEDGER:
        why, setting = _TABLES[name]
        days = None if setting is None else getattr(settings, setting)
        kept_for = FOR_EVER if days is None else f"{days} days"
    return {"name": f"{place.name}.{name}", "kept_in": place.kept_in, "why": why, "kept_for": kept_for}
