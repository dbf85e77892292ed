"""The steps between a data set and a served model; `quickstart` runs them in order, commands one each."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from decisioning.catalog import Catalog, Release
from decisioning.content import FeatureTypes, Placement
from decisioning.errors import CatalogError, SetupError
from decisioning.profile import ConsentChange
from nextmove.console import err
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.catalog_files import (
    catalog_pointer,
    decode_release,
    moved_units,
    read_release,
    read_sources,
    release_of,
)
from storage.consents import record_consents
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home
from training.domains import TabledDomain, open_domain
from training.domains.files import Files
from training.domains.pseudonymised import Pseudonymised
from training.features import declared_features, offline_path
from training.ingest import IngestReport, ingest

Progress = Callable[[str], None]


def open_home(settings: Settings) -> None:
    """The state directory and its ledger, created or brought to this version."""
    prepare_home(settings)
    migrate(settings)


def domain_of(settings: Settings) -> TabledDomain | Files:
    """The data behind the settings' domain, under pseudonyms where people are kept as such."""
    if settings.mapping is not None:
        return Files(settings, now=datetime.now(UTC), tell=err.print)
    domain = open_domain(settings.domain, data=settings.data)
    return Pseudonymised(domain, settings.pseudonyms) if settings.pseudonyms.are_used else domain


def catalog_folder(settings: Settings) -> Path:
    """Where the domain's catalogue files are."""
    return settings.catalog_dir / settings.domain


def features_of(settings: Settings) -> FeatureTypes:
    """The features that the domain's rules may name."""
    return declared_features(settings.domain, settings)


class Proposed(NamedTuple):
    """What the catalogue's files say, beside what is served.

    Attributes:
        content: The catalogues' bytes.
        served: None where nothing is, or nothing that this version can read.
        moved: What of it would move units of experiments that have begun: it is not released.
    """

    content: bytes
    release: Release
    served: Release | None
    moved: list[str]

    @property
    def is_new(self) -> bool:
        """Whether it is something else than what is served."""
        return self.served is None or self.served.version != self.release.version


def read_files(settings: Settings) -> Release:
    """The catalogues that the domain's files say.

    Raises:
        CatalogError: With every mistake in the files.
    """
    return read_release(catalog_folder(settings), features=features_of(settings))[1]


def proposed(settings: Settings, *, now: datetime) -> Proposed:
    """The catalogues that the domain's files say, held against those that are served.

    Raises:
        CatalogError: With every mistake in the files.
    """
    sources = read_sources(catalog_folder(settings))
    content, release = release_of(sources, features=features_of(settings))
    served = last_released(settings)
    moved = moved_units(sources, release, served=served, now=now) if served is not None else []
    return Proposed(content, release, served, moved)


def release_catalog(settings: Settings, *, now: datetime, reason: str) -> Proposed:
    """Make the catalogue's files the served version.

    Raises:
        CatalogError: With every mistake in the files, or all that would move units of experiments that have
            begun; what is served stays.
    """
    files = proposed(settings, now=now)
    if files.moved:
        raise CatalogError(files.moved)
    if files.is_new:
        blobs = BlobStore(settings)
        try:
            blobs.point(catalog_pointer(settings.domain), blobs.put(files.content), now=now, reason=reason)
        finally:
            blobs.close()
    return files


def released(settings: Settings) -> Release:
    """The served catalogues.

    Raises:
        SetupError: None was ever released.
    """
    blobs = BlobStore(settings)
    try:
        sha256 = blobs.pointer(catalog_pointer(settings.domain))
        if sha256 is None:
            raise SetupError(
                f"no catalogue of '{settings.domain}' is released in {settings.home};"
                f" run: nextmove catalog release --dataset {settings.domain}"
            )
        return decode_release(blobs.get(sha256))
    finally:
        blobs.close()


def last_released(settings: Settings) -> Release | None:
    """The served catalogues; None where there are none, or none that this version can read."""
    if not settings.ledger_path.exists():
        return None  # to look must not make a ledger
    try:
        return released(settings)
    except (SetupError, CatalogError):
        return None


def consents_kept(settings: Settings) -> bool:
    """Whether the ledger holds any consent of this domain; a ledger that was replaced does not."""
    reader = LedgerReader(settings)
    try:
        return reader.counts(settings.domain).consents > 0
    finally:
        reader.close()


def ingest_domain(settings: Settings, domain: TabledDomain, *, now: datetime, progress: Progress) -> IngestReport:
    """Features to Feast, consents to the ledger and hot state."""
    hot_state = open_hot_state(settings, now=now, progress=progress)

    def write_consents(changes: list[ConsentChange]) -> None:
        record_consents(settings, hot_state, changes)

    try:
        report = ingest(domain, settings, now=now, progress=progress, write_consents=write_consents)
        if report.reused and report.consents and not consents_kept(settings):
            progress("the ledger has no consents: writing them again")
            write_consents(domain.consents())
        return report
    finally:
        hot_state.close()


def champion_version(settings: Settings) -> str | None:
    """The version of the model that is served, if any."""
    blobs = BlobStore(settings)
    try:
        sha256 = blobs.pointer(bundle_pointer(settings.domain))
        return load_bundle(blobs, sha256).manifest.version if sha256 else None
    finally:
        blobs.close()


def unreleased_changes(settings: Settings) -> bool:
    """Whether the catalogue's files say something else than what is served."""
    return read_files(settings).version != released(settings).version


def example_placement(catalog: Catalog) -> Placement:
    """A placement at which anyone may be asked about: the first whose channel needs no consent."""
    placements = catalog.content.placements
    free = [placement for placement in placements if catalog.channels[placement.channel].requires_consent is None]
    return (free or list(placements))[0]


def example_customers(settings: Settings, count: int) -> list[str]:
    """Up to `count` customers who are ingested.

    Raises:
        SetupError: Nobody is.
    """
    folder = offline_path(settings, settings.domain, "any").parent
    files = [pq.ParquetFile(path) for path in sorted(folder.glob("*.parquet"))]
    # Some tables are of accounts, and some of a few customers only.
    tables = [file for file in files if "customer_id" in file.schema_arrow.names]
    for table in sorted(tables, key=lambda file: file.metadata.num_rows, reverse=True):
        for rows in table.iter_batches(count, columns=["customer_id"]):
            return list(dict.fromkeys(rows.column(0).to_pylist()))
    raise SetupError(f"no customer is ingested in {folder}; run: nextmove ingest --dataset {settings.domain}")
