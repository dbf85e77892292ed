"""Where things are and how they behave: one frozen object, read once.

A setting is an environment variable `NEXTMOVE_<NAME>` or a key `<name>` of `nextmove.toml` in the
working directory; the environment wins. Whatever is not a setting is refused, since a misspelt
name would otherwise be a silent default.
"""

import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from decisioning.errors import SetupError
from decisioning.pseudonyms import Pseudonyms

PREFIX = "NEXTMOVE_"
FILE_NAME = "nextmove.toml"
_CATALOG = Path(__file__).resolve().parents[1] / "catalog"

DomainName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
# BLAKE2b takes keys of up to 64 bytes; a short one could be guessed and draws steered.
Secret = Annotated[str, msgspec.Meta(min_length=16, max_length=64)]
Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
_ORIGIN = r"https?://[^/,\s*]+"
Origins = Annotated[str, msgspec.Meta(pattern=f"^{_ORIGIN}(,{_ORIGIN})*$")]
_JWT = ("jwt_issuer", "jwt_audience", "jwt_jwks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of Nextmove.

    Attributes:
        home: State directory. A relative path counts from the working directory.
        domain: Which catalogue, feature service and models are served.
        catalog_dir: Folder with one catalogue folder a domain.
        online_store: Where Feast keeps the newest features.
        hot_state: Where consents, contacts and budgets of this instant are; `redis` for several machines.
        redis_url: The Redis of `online_store` and `hot_state`; `redis_prefix` begins the latter's keys.
        offline_store: What Feast joins history with; `file` is Dask over parquet.
        ledger_synchronous: `FULL` survives a power cut, `NORMAL` only the death of the process.
        ledger_queue: Records that may wait for the ledger before callers are refused.
        pointer_poll_seconds: How often a service looks for a new bundle or catalogue.
        draw_secret: Key of the exploration's draws, 16 to 64 characters. None: the service keeps
            one of its own in `home`. `unsubscribe_secret` signs the links to unsubscribe by, and
            `erasure_secret` hashes the ids of erased persons, likewise.
        pseudonym_secret: With one, ids of customers and visitors are kept as pseudonyms alone, made with it
            (`decisioning.pseudonyms`). Whoever loses or changes it meets only strangers from then on.
        allowed_origins: Sites whose pages may call from a browser (CORS), with commas between:
            `https://shop.example,https://www.shop.example`. None: browsers let pages of other sites call nothing.
        jwt_issuer: Who issues tokens (`iss`) that callers may show instead of a key; set together with
            `jwt_audience` (`aud`) and `jwt_jwks`, the issuer's public keys: a file or an https address.
        hook_secrets: TOML file with the secret of each hook, `<id of the hook> = "<secret>"`. A hook without
            one refuses every call.
        webhooks: TOML file with where moments are sent: `[<name>]`, `url`, `secret`, `allow_private`.
        retention_days_decisions: After so many days `nextmove privacy purge` deletes decisions with their
            outcomes; None keeps them for ever. Likewise events, settled moments, the audit, requests for
            erasure that are done, and the hashes of erased ids (`tombstones`): see docs/privacy.md.
        workers: Processes of the service, each with the model in memory.
        data: File that a data set is read from, for domains that need one.
        mapping: What one's own data mean, for the domain `files`; `data` is then the folder that they are in.
        require_services: Tests against PostgreSQL and Redis fail instead of being skipped.
    """

    home: Path = Path(".nextmove")
    domain: DomainName = "simulated"
    catalog_dir: Path = _CATALOG
    online_store: Literal["sqlite", "redis"] = "sqlite"
    offline_store: Literal["duckdb", "file"] = "duckdb"
    hot_state: Literal["sqlite", "redis"] = "sqlite"
    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    redis_prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]+$", max_length=64)] = "nm"
    ledger_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    ledger_queue: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    pointer_poll_seconds: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    draw_secret: Secret | None = field(default=None, repr=False)
    unsubscribe_secret: Secret | None = field(default=None, repr=False)
    pseudonym_secret: Secret | None = field(default=None, repr=False)
    allowed_origins: Origins | None = None
    erasure_secret: Secret | None = field(default=None, repr=False)
    retention_days_decisions: Days | None = None
    retention_days_events: Days | None = None
    retention_days_moments: Days | None = None
    retention_days_audit: Days | None = None
    retention_days_requests: Days | None = None
    retention_days_tombstones: Days | None = None
    jwt_issuer: Name | None = None
    jwt_audience: Name | None = None
    jwt_jwks: Name | None = None
    hook_secrets: Path | None = None
    webhooks: Path | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    data: Path | None = None
    mapping: Path | None = None
    require_services: bool = False

    @property
    def pseudonyms(self) -> Pseudonyms:
        """What ids of people are kept as."""
        return Pseudonyms(self.pseudonym_secret.encode() if self.pseudonym_secret else None)

    @property
    def ledger_path(self) -> Path:
        """SQLite ledger: decisions, outcomes, consents, blobs, pointers."""
        return self.home / "ledger.db"

    @property
    def hot_path(self) -> Path:
        """SQLite hot state, rebuilt from the ledger when lost."""
        return self.home / "hot.db"

    @property
    def feast_dir(self) -> Path:
        """Feast's registry, online store and offline parquet."""
        return self.home / "feast"

    @property
    def mlflow_db(self) -> Path:
        """MLflow's SQLite database."""
        return self.home / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking and registry address."""
        return f"sqlite:///{self.mlflow_db}"

    @property
    def artifacts_dir(self) -> Path:
        """MLflow's artifacts."""
        return self.home / "mlartifacts"

    @property
    def bundles_dir(self) -> Path:
        """Cache of content-addressed blobs."""
        return self.home / "bundles"

    @property
    def bench_dir(self) -> Path:
        """What `nextmove bench` measured."""
        return self.home / "bench"


def load_settings(environ: Mapping[str, str], *, directory: Path) -> Settings:
    """The settings in `environ` (`NEXTMOVE_*`), completed by `nextmove.toml` in `directory`.

    >>> load_settings({"NEXTMOVE_HOME": "/srv/nextmove"}, directory=Path("/")).ledger_path.as_posix()
    '/srv/nextmove/ledger.db'

    Raises:
        SetupError: An unknown key, a value of the wrong type, or a file that is not TOML.
    """
    allowed = [setting.name for setting in fields(Settings)]
    from_file = _read_file(directory / FILE_NAME)
    _refuse_unknown(from_file, allowed, where=f"{directory / FILE_NAME}")
    from_environment = {
        name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)
    }
    _refuse_unknown(from_environment, allowed, where="the environment", prefix=PREFIX)
    values = {**from_file, **from_environment}
    for name in allowed:
        _check_type(name, values, where="the environment" if name in from_environment else f"{directory / FILE_NAME}")
    values.setdefault("home", ".nextmove")
    for name in ("home", "catalog_dir", "data", "mapping", "hook_secrets", "webhooks"):
        if name in values:
            values[name] = (directory / Path(values[name]).expanduser()).resolve()
    _check_jwt(values, directory)
    return msgspec.convert(values, Settings, strict=False, dec_hook=_as_path)


def _check_jwt(values: dict[str, Any], directory: Path) -> None:
    """All three settings or none: a token whose issuer or audience nobody checks may be meant for others."""
    missing = [name for name in _JWT if name not in values]
    if len(missing) == len(_JWT):
        return
    if missing:
        raise SetupError(
            f"{', '.join(missing)} must be set too: {', '.join(_JWT)} are set together or not at all", where=missing[0]
        )
    place = values["jwt_jwks"]
    if "://" not in place:
        values["jwt_jwks"] = str((directory / Path(place).expanduser()).resolve())
    elif not place.startswith("https://"):
        raise SetupError(f"the setting jwt_jwks is {place!r}, must be a file or an https address", where="jwt_jwks")


def prepare_home(settings: Settings) -> None:
    """Create the state directory, for its owner alone, and the folders in it.

    Raises:
        SetupError: It is not a directory, or cannot be written.
    """
    home = settings.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (settings.feast_dir, settings.artifacts_dir, settings.bundles_dir, settings.bench_dir):
            folder.mkdir(exist_ok=True)
        # Permissions alone do not tell: a full or read-only file system shows only when written to.
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        reason = "it is not a directory" if home.exists() and not home.is_dir() else error.strerror or str(error)
        raise SetupError(
            f"the state directory {home} cannot be used: {reason}; set {PREFIX}HOME to a directory that can be written",
            where="home",
        ) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"{path} cannot be read as TOML: {error}", where=str(path)) from error


def _refuse_unknown(given: Mapping[str, Any], allowed: list[str], *, where: str, prefix: str = "") -> None:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        names = ", ".join(f"{prefix}{name.upper() if prefix else name}" for name in unknown)
        known = ", ".join(f"{prefix}{name.upper() if prefix else name}" for name in sorted(allowed))
        raise SetupError(f"{names} in {where} is not a setting, must be one of {known}", where=where)


def _check_type(name: str, values: Mapping[str, Any], *, where: str) -> None:
    if name not in values:
        return
    try:
        msgspec.convert({name: values[name]}, Settings, strict=False, dec_hook=_as_path)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at ")[0]
        shown = "(hidden)" if name.endswith("_secret") else repr(values[name])
        raise SetupError(f"the setting {name} in {where} is {shown}: {reason}", where=name) from error


def _as_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, Path):
        return value
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("must be a path")
