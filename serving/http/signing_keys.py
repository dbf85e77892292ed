"""The public keys of who issues tokens (a JWK Set, RFC 7517), followed in a thread of their own.

Not in the follower's: an issuer that answers slowly must not keep a revoked key alive.
"""

import json
import logging
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt

from decisioning.errors import SetupError
from serving.http.tokens import ALGORITHMS

logger = logging.getLogger(__name__)
FETCH_SECONDS = 5.0  # without a byte
REFRESH_SECONDS = 300.0
AT_MOST_EVERY_SECONDS = 30.0  # strangers can name unknown keys as often as they like
LARGEST = 1024 * 1024


class SigningKeys:
    """The issuer's keys by their ids. A fetch that fails leaves those that were there."""

    def __init__(
        self,
        place: str,
        *,
        read: Callable[[str], bytes] | None = None,
        every: float = REFRESH_SECONDS,
        at_most_every: float = AT_MOST_EVERY_SECONDS,
    ) -> None:
        """`place` is a file or an https address, `read` finds its bytes; intervals are in seconds."""
        self._place = place
        self._read = read or read_place
        self._every = every
        self._at_most_every = at_most_every
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signing-keys", daemon=True)
        self.problem: str | None = None

    def find(self, kid: str) -> jwt.PyJWK | None:
        """The key with this id; for one that is not known they are soon fetched again."""
        key = self._keys.get(kid)
        if key is None:
            self._asked.set()
        return key

    def check(self) -> None:
        """Fetch them once."""
        try:
            self._keys, self.problem = keys_in(self._read(self._place)), None
        except Exception as error:  # whatever it is, it must not end the thread that follows
            said = error.message if isinstance(error, SetupError) else str(error) or repr(error)
            self.problem = f"jwt_jwks {self._place} is not taken, the keys known before stay: {said}"
            logger.error("%s", self.problem)

    def start(self) -> None:
        """Follow until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop. A fetch that hangs is not waited for: it holds nothing."""
        self._stopping.set()
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait(self._every)
            if self._stopping.is_set():
                return
            self._asked.clear()
            self.check()
            self._stopping.wait(self._at_most_every)


def keys_in(content: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWK Set that tokens may be signed with, by id.

    Raises:
        SetupError: There is none, or it is no such set.
    """
    try:
        listed = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SetupError("it is not a JWK Set: JSON with a list of keys", where="jwt_jwks") from error
    found: dict[str, jwt.PyJWK] = {}
    for each in listed if isinstance(listed, list) else []:
        try:
            key = jwt.PyJWK(each)
        except (jwt.PyJWTError, AttributeError, TypeError, ValueError):
            continue  # of a kind that we do not take; the set may serve others too
        if isinstance(key.key_id, str) and key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            found.setdefault(key.key_id, key)
    if not found:
        raise SetupError(f"it has no key with a kid for signatures by one of {', '.join(ALGORITHMS)}", where="jwt_jwks")
    return found


def read_place(place: str) -> bytes:
    """The bytes of a file, or at an https address."""
    if not place.startswith("https://"):
        return Path(place).read_bytes()
    with _opener.open(place, timeout=FETCH_SECONDS) as answer:
        content: bytes = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise SetupError(f"it has more than {LARGEST:,} bytes", where="jwt_jwks")
    return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Who could redirect us could choose the keys: to plain http, or to a machine inside."""

    def redirect_request(self, *call: Any, **_: Any) -> Any:
        code = call[2]
        raise SetupError(f"it redirects ({code}); set the address that it leads to", where="jwt_jwks")


_opener = urllib.request.build_opener(_NoRedirect)
