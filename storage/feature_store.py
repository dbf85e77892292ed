"""How Feast is reached: one project, its stores chosen by settings alone.

Training writes and joins through it, the service reads online features through it; both build it
here, so neither can read what the other does not write.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from feast import FeatureStore
from feast.repo_config import RegistryConfig, RepoConfig
from feast.types import Array

from decisioning.errors import SetupError
from storage.settings import Settings

PROJECT = "nextmove"


def accounts_service(domain: str) -> str:
    """Name of the service of a domain's account features, which not every domain has.

    That of its customer features is named as the domain.
    """
    return f"{domain}_accounts"


def list_features(service: Any) -> frozenset[str]:
    """Names of a service's features that are lists. Stores know a missing list, rules only an empty one."""
    return frozenset(
        feature.name
        for projection in service.feature_view_projections
        for feature in projection.features
        if isinstance(feature.dtype, Array)
    )


def open_feature_store(settings: Settings) -> FeatureStore:
    """Feast's store over the registry, online store and offline store that the settings name.

    Creates nothing but the registry's folder and, in it, SQLite's online store.

    Raises:
        SetupError: `redis_url` is not the address of a Redis.
    """
    settings.feast_dir.mkdir(parents=True, exist_ok=True)
    if settings.online_store == "sqlite":
        _let_readers_pass(_online_path(settings))
    return FeatureStore(config=repo_config(settings))


def repo_config(settings: Settings) -> RepoConfig:
    """Feast's configuration under these settings; touches nothing.

    Raises:
        SetupError: `redis_url` is not the address of a Redis.
    """
    return RepoConfig(
        project=PROJECT,
        provider="local",
        # No time to live: a file registry re-reads itself when its file changes, and an expiry
        # would make a decision wait for the parsing of an unchanged file.
        registry=RegistryConfig(path=str(settings.feast_dir / "registry.db"), cache_ttl_seconds=0),
        online_store=_online_store(settings),
        offline_store={"type": "duckdb" if settings.offline_store == "duckdb" else "file"},
        entity_key_serialization_version=3,
    )


def _online_store(settings: Settings) -> dict[str, str]:
    if settings.online_store == "sqlite":
        return {"type": "sqlite", "path": str(_online_path(settings))}
    return {"type": "redis", "connection_string": redis_connection(settings.redis_url)}


def _online_path(settings: Settings) -> Path:
    return settings.feast_dir / "online.db"


def _let_readers_pass(path: Path) -> None:
    """Give the file a write-ahead log, which it keeps.

    Feast leaves SQLite its rollback journal, under which a read waits for the whole of an ingestion's
    transaction: for seconds, on the service's event loop.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0)) as connection:
        # Refused while others use the file. A later start succeeds; a damaged file is Feast's to report.
        connection.execute("PRAGMA journal_mode = WAL")


def redis_connection(url: str) -> str:
    """A Redis URL in Feast's own notation.

    >>> redis_connection("redis://:secret@cache:6380/2")
    'cache:6380,db=2,password=secret'

    Raises:
        SetupError: Another scheme, or no host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise SetupError(
            f"redis_url has the scheme '{parts.scheme}' and the host '{parts.hostname or ''}',"
            " must be like redis://host:6379/0 or rediss://host:6379/0",
            where="redis_url",
        )
    options = {
        "db": parts.path.lstrip("/") or "0",
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "ssl": "true" if parts.scheme == "rediss" else "",
    }
    return ",".join(
        [f"{parts.hostname}:{parts.port or 6379}", *(f"{name}={value}" for name, value in options.items() if value)]
    )
