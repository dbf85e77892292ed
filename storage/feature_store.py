"""How Feast is reached: one project, its stores chosen by settings alone.

Training writes and joins through it, the service reads online features through it; both build it
here, so neither can read what the other does not write.
"""

from urllib.parse import unquote, urlsplit

from feast import FeatureStore
from feast.repo_config import RegistryConfig, RepoConfig

from decisioning.errors import SetupError
from storage.settings import Settings

PROJECT = "nextmove"


def open_feature_store(settings: Settings) -> FeatureStore:
    """Feast's store over the registry, online store and offline store that the settings name.

    Creates no directory but the registry's own.

    Raises:
        SetupError: `redis_url` is not the address of a Redis.
    """
    settings.feast_dir.mkdir(parents=True, exist_ok=True)
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
        return {"type": "sqlite", "path": str(settings.feast_dir / "online.db")}
    return {"type": "redis", "connection_string": redis_connection(settings.redis_url)}


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
