"""Puts the engine together: which adapter stands behind which port, and what is live."""

import logging
from contextlib import closing
from datetime import UTC, datetime

from decisioning.bundle import Bundle
from decisioning.catalog import Release
from decisioning.errors import CatalogError, SetupError, StoreError
from serving.adapters.blob_archive import BlobArchive
from serving.adapters.feast_features import FeastFeatures
from serving.engine import DrawKey, Engine
from serving.unsubscribe_links import UnsubscribeLinks
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.catalog_files import catalog_pointer, decode_release
from storage.feature_store import open_feature_store
from storage.hot_state.history import kept_pauses
from storage.hot_state.rebuild import StoredHotState, open_hot_state
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.secret_files import secret_of
from storage.settings import Settings, prepare_home

logger = logging.getLogger(__name__)


def open_engine(settings: Settings, blobs: BlobStore, ledger: Ledger, hot_state: StoredHotState) -> Engine:
    """The engine over these stores, with the released catalogue and no model yet.

    Raises:
        SetupError: Something that must be there before serving is not.
        CatalogError: The catalogue is wrong.
    """
    with closing(LedgerReader(settings)) as reader:
        paused = tuple(action for _, action in kept_pauses(reader, domain=settings.domain))
    return Engine(
        release=live_release(blobs, settings),
        features=FeastFeatures(open_feature_store(settings), settings.domain),
        hot_state=hot_state,
        ledger=ledger,
        scorer=None,
        draw_key=draw_key(settings),
        archive=BlobArchive(blobs),
        links=unsubscribe_links(settings),
        paused=paused,
        pseudonyms=settings.pseudonyms,
    )


def open_stores(settings: Settings) -> tuple[BlobStore, Ledger]:
    """The ledger's database in this version, as blob store and as ledger.

    Raises:
        SetupError: The state directory cannot be used, or the ledger is of a newer version.
    """
    prepare_home(settings)
    migrate(settings)
    return BlobStore(settings), Ledger(settings)


def open_contacts(settings: Settings) -> StoredHotState:
    """Hot state, filled from the ledger where it is new or lost.

    Raises:
        SetupError: The state directory or the address of Redis cannot be used.
        StoreError: It cannot be written.
    """
    return open_hot_state(settings, now=datetime.now(UTC), progress=logger.warning)


def live_release(blobs: BlobStore, settings: Settings) -> Release:
    """The released catalogue; where it is broken or of another domain, the newest before that is not.

    Raises:
        SetupError: None was ever released.
        CatalogError, StoreError: None can be served; it is the newest's error.
    """
    released = blobs.history(catalog_pointer(settings.domain))
    if not released:
        raise SetupError(
            f"no catalogue of '{settings.domain}' is released in {settings.home}; run: nextmove catalog release"
        )
    first: CatalogError | StoreError | None = None
    for sha256 in dict.fromkeys(pointing.sha256 for pointing in reversed(released)):
        try:
            return decode_release(blobs.get(sha256), domain=settings.domain)
        except (CatalogError, StoreError) as error:
            logger.error("catalogue %s cannot be served: %s", sha256[:12], error.message)
            first = first or error
    assert first is not None
    raise first


def live_bundle(blobs: BlobStore, settings: Settings) -> Bundle:
    """The promoted bundle, its hashes verified.

    Raises:
        SetupError: None was ever promoted.
        BundleError: It is damaged.
    """
    promoted = blobs.pointer(bundle_pointer(settings.domain))
    if promoted is None:
        raise SetupError(f"no model of '{settings.domain}' is promoted in {settings.home}; run: nextmove quickstart")
    return load_bundle(blobs, promoted)


def draw_key(settings: Settings) -> DrawKey:
    """The secret behind every draw: the setting, or one made once and kept in the state directory."""
    return DrawKey(secret_of(settings, settings.draw_secret, "draw.key"))


def unsubscribe_links(settings: Settings) -> UnsubscribeLinks:
    """Links signed with the setting, or with a secret made once and kept in the state directory."""
    secret = secret_of(settings, settings.unsubscribe_secret, "unsubscribe.key")
    return UnsubscribeLinks(secret, domain=settings.domain)
