"""Keyed hashes of ids: who has the id and the secret can tell that it is the same, and nobody can tell the id."""

import hashlib
from collections.abc import Iterable

from storage.secret_files import secret_of
from storage.settings import Settings

DIGEST_BYTES = 20


class IdDigests:
    """Hashes the ids of one domain: the same id of another domain has another hash.

    >>> shop = IdDigests(b"a secret of at least 16", domain="shop")
    >>> shop.of("c-1") == shop.of("c-1"), shop.of("c-1") == shop.of("c-2"), len(shop.of("c-1"))
    (True, False, 40)
    """

    def __init__(self, secret: bytes, *, domain: str) -> None:
        self._keyed = hashlib.blake2b(f"{domain}\0".encode(), key=secret, digest_size=DIGEST_BYTES)

    def of(self, name: str) -> str:
        """The hash of an id, as text."""
        digest = self._keyed.copy()
        digest.update(name.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def by_digest(self, names: Iterable[str]) -> dict[str, str]:
        """The ids by their hash."""
        return {self.of(name): name for name in names}


def id_digests(settings: Settings) -> IdDigests:
    """Hashes with the setting `erasure_secret`, or with a secret made once and kept in the state directory.

    Raises:
        SetupError: The file is damaged.
    """
    return IdDigests(secret_of(settings, settings.erasure_secret, "erasure.key"), domain=settings.domain)


def decision_name(decision_id: str) -> str:
    """What a decision is called among ids: no customer is called so, since ids have no signs for control."""
    return f"decision\0{decision_id}"
