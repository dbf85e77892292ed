"""The steps between a data set and a served model; `quickstart` runs them in order, commands one each."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from decisioning.catalog import Catalog
from decisioning.profile import ConsentChange
from storage.blobs import BlobStore
from storage.catalog_files import catalog_pointer, decode_catalog, read_catalog
from storage.hot_state.rebuild import needs_rebuild, rebuild
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.consents import append_consents
from storage.ledger.database import migrate
from storage.settings import Settings, prepare_home
from training.domains import Domain, open_domain
from training.ingest import IngestReport, ingest

Progress = Callable[[str], None]


def open_home(settings: Settings) -> None:
    """The state directory, its ledger in the current version, and hot state if it was lost."""
    prepare_home(settings)
    migrate(settings)
    if needs_rebuild(settings):
        rebuild(settings)


def domain_of(settings: Settings) -> Domain:
    """The data behind the settings' domain."""
    return open_domain(settings.domain, data=settings.data)


def release_catalog(settings: Settings, *, now: datetime, reason: str) -> tuple[Catalog, bool]:
    """Make the catalogue's files the served version; whether that changed anything.

    Raises:
        CatalogError: With every mistake in the files; what is served stays.
    """
    content, catalog = read_catalog(catalog_folder(settings))
    blobs = BlobStore(settings)
    try:
        sha256 = blobs.put(content)
        changed = blobs.pointer(catalog_pointer(settings.domain)) != sha256
        if changed:
            blobs.point(catalog_pointer(settings.domain), sha256, now=now, reason=reason)
    finally:
        blobs.close()
    return catalog, changed


def released_catalog(settings: Settings) -> Catalog | None:
    """The served catalogue, if one was ever released."""
    blobs = BlobStore(settings)
    try:
        sha256 = blobs.pointer(catalog_pointer(settings.domain))
        return decode_catalog(blobs.get(sha256)) if sha256 else None
    finally:
        blobs.close()


def catalog_folder(settings: Settings) -> Path:
    """Where the domain's catalogue files are."""
    return settings.catalog_dir / settings.domain


def ingest_domain(settings: Settings, domain: Domain, *, now: datetime, progress: Progress) -> IngestReport:
    """Features to Feast, consents to the ledger and hot state."""

    def write_consents(changes: list[ConsentChange]) -> None:
        append_consents(settings, changes)  # first the truth, then what is rebuilt from it
        SqliteHotState(settings).set_consents(changes)

    return ingest(domain, settings, now=now, progress=progress, write_consents=write_consents)


def example_placement(catalog: Catalog) -> Placement:
    """A placement at which anyone may be asked about: the first whose channel needs no consent."""
    free = [p for p in catalog.content.placements if catalog.channels[p.channel].requires_consent is None]
    return (free or list(catalog.content.placements))[0]


def example_customer(settings: Settings) -> str:
    """Some customer who is ingested."""
    folder = offline_path(settings, settings.domain, "x").parent
    for path in sorted(folder.glob("*.parquet")):
        first = next(pq.ParquetFile(path).iter_batches(1, columns=["customer_id"]), None)
        if first is not None:
            return str(first.column(0)[0].as_py())
    raise SetupError(f"no customer is ingested in {folder}; run: nextmove ingest --dataset {settings.domain}")
