"""Keys of those who call the service, in the ledger's database; of the secret in one, only a hash.

A token is `nm_<key id>_<secret>`. The secret has 256 bits, so one round of SHA-256 hides it: what
cannot be guessed need not be slow to try.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from decisioning.errors import RequestError, StoreError
from decisioning.record import AuditRecord
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import audit, keys
from storage.settings import Settings

# What a key may be for; `admin` implies the others.
SCOPES = ("decide", "ingest", "agent", "marketing", "admin")
PUBLISHABLE_SCOPES = ("decide",)
PREFIX = "nm"
LONGEST_NAME = 100
_ID_BYTES, _SECRET_BYTES = 8, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        name: Whose it is; the audit calls its holder so.
        sha256: Of the secret, in hexadecimal.
        market: The only one that it may ask for; None for all.
        publishable: It stands in a page for everyone to read, so what it says is taken with care.
    """

    key_id: str
    name: str
    sha256: str = field(repr=False)
    scopes: tuple[str, ...]
    market: str | None
    publishable: bool
    created_at: datetime
    revoked_at: datetime | None = None


def parts_of(token: str) -> tuple[str, str] | None:
    """The key's id and its secret in a token; None for anything else.

    >>> parts_of("nm_0a1b_se_cret")
    ('0a1b', 'se_cret')
    """
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret else None


def hash_of(secret: str) -> str:
    """SHA-256 of a secret, as it is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    """Makes, lists and revokes keys; who did so is audited in the same transaction."""

    def __init__(self, settings: Settings, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """Open the ledger's database, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)
        self._domain = settings.domain
        self._random = random

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str],
        market: str | None = None,
        publishable: bool = False,
        now: datetime,
        actor: str,
    ) -> tuple[ApiKey, str]:
        """A new key, and its token, which nobody can tell again.

        Raises:
            RequestError: The name or a scope cannot be one, or a publishable key may not have it.
            StoreError: It could not be kept.
        """
        _check(name, scopes, publishable=publishable)
        key_id = self._random(_ID_BYTES).hex()
        secret = base64.urlsafe_b64encode(self._random(_SECRET_BYTES)).rstrip(b"=").decode()
        key = ApiKey(
            key_id=key_id,
            name=name,
            sha256=hash_of(secret),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            market=market,
            publishable=publishable,
            created_at=now,
        )
        row = {
            "key_id": key_id,
            "name": name,
            "sha256": key.sha256,
            "scopes": " ".join(key.scopes),
            "market": market,
            "publishable": publishable,
            "created_at": to_microseconds(now),
        }
        with writing(self._engine) as connection:
            connection.execute(keys.insert().values(row))
            self._audit(connection, "key.create", key, now=now, actor=actor)
        return key, f"{PREFIX}_{key_id}_{secret}"

    def all(self) -> list[ApiKey]:
        """Every key that ever was, oldest first.

        Raises:
            StoreError: They cannot be read.
        """
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.key_id))]

    def revoke(self, key_id: str, *, now: datetime, actor: str) -> ApiKey:
        """The key, which opens nothing from now on; one that was revoked before stays as it is.

        Raises:
            RequestError: There is no such key.
            StoreError: That could not be kept.
        """
        this = keys.c.key_id == key_id
        with writing(self._engine) as connection:
            found = connection.execute(select(keys).where(this)).first()
            if found is not None and found.revoked_at is None:
                connection.execute(update(keys).where(this).values(revoked_at=to_microseconds(now)))
                self._audit(connection, "key.revoke", _key(found), now=now, actor=actor)
                found = connection.execute(select(keys).where(this)).first()
        if found is None:  # what was typed may be a secret: it is not repeated
            raise RequestError("no key has this id; nextmove keys list shows those that there are", where="key_id")
        return _key(found)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _audit(self, connection: Connection, what: str, key: ApiKey, *, now: datetime, actor: str) -> None:
        entry = AuditRecord(
            at=now, domain=self._domain, actor=actor, what=what, subject=key.key_id, reason=_in_words(key)
        )
        connection.execute(audit.insert().values(**_columns(entry)))


def _check(name: str, scopes: Sequence[str], *, publishable: bool) -> None:
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise RequestError(
            f"the name has {len(name)} characters, must have 1 to {LONGEST_NAME}, all of them printable,"
            " with none of them blank at its ends",
            where="name",
        )
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise RequestError(f"there is no scope '{unknown[0]}', must be one of {', '.join(SCOPES)}", where="scope")
    if not scopes:
        raise RequestError(f"a key needs a scope, one or more of {', '.join(SCOPES)}", where="scope")
    refused = [scope for scope in scopes if publishable and scope not in PUBLISHABLE_SCOPES]
    if refused:
        raise RequestError(
            f"a publishable key cannot have the scope '{refused[0]}', must have"
            f" {', '.join(PUBLISHABLE_SCOPES)} alone: everyone can read it",
            where="scope",
        )


def _in_words(key: ApiKey) -> str:
    market = f", market {key.market}" if key.market is not None else ""
    return f"{key.name}: {' '.join(key.scopes)}{market}{', publishable' if key.publishable else ''}"


def _columns(entry: AuditRecord) -> dict[str, Any]:
    return {
        "at": to_microseconds(entry.at),
        "domain": entry.domain,
        "actor": entry.actor,
        "what": entry.what,
        "subject": entry.subject,
        "reason": entry.reason,
    }


def _key(row: Row[Any]) -> ApiKey:
    try:
        return ApiKey(
            key_id=row.key_id,
            name=row.name,
            sha256=row.sha256,
            scopes=tuple(row.scopes.split()),
            market=row.market,
            publishable=bool(row.publishable),
            created_at=from_microseconds(row.created_at),
            revoked_at=None if row.revoked_at is None else from_microseconds(row.revoked_at),
        )
    except (AttributeError, TypeError) as error:
        raise StoreError(f"a key in the ledger cannot be read: {error}; restore it from a backup") from error
