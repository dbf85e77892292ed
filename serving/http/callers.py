"""Who calls: from a request's headers to a name, and what that caller may do and ask for."""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from decisioning.errors import DecisionConflict, NextmoveError
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from serving.http.problems import Forbidden, Unauthorized
from serving.http.tokens import Tokens
from storage.keys import PREFIX, ApiKey, hash_of, parts_of

# Of no secret: an unknown key's is compared with it, which takes as long as with a known one.
_NO_HASH = bytes(64)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: What the audit calls them.
        scopes: What they may do; `admin` implies the rest.
        market: The only one that they may ask for; None for all.
        publishable: Whether everyone can read their key.
    """

    name: str
    scopes: frozenset[str]
    market: str | None = None
    publishable: bool = False

    def may(self, *scopes: str) -> bool:
        """Whether one of these scopes is theirs.

        >>> Caller("till", frozenset({"ingest"})).may("decide", "ingest")
        True
        """
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)

    def must(self, *scopes: str) -> None:
        """Refuse a caller who has none of these scopes.

        Raises:
            Forbidden: It names the scopes of which one is needed.
        """
        if not self.may(*scopes):
            needed = " or ".join(scopes)
            theirs = ", ".join(sorted(self.scopes)) or "none"
            raise Forbidden(f"this call needs the scope {needed}, the caller has {theirs}; use another key")

    def market_of(self, asked: str | None, *, where: str = "market") -> str | None:
        """The market that a call is about: the caller's own, where they have one.

        Raises:
            Forbidden: Another is asked for.
        """
        if self.market is None:
            return asked
        if asked not in (None, self.market):
            raise Forbidden(
                f"{where} is '{asked}', must be '{self.market}': the caller may ask for no other", where=where
            )
        return self.market

    def request_of(self, request: DecisionRequest, *, where: str = "") -> DecisionRequest:
        """What this caller asks for, in their market; `where` is the request's place in a larger body.

        Raises:
            Forbidden: They may not ask so.
        """
        prefix = f"{where}." if where else ""
        refused = [
            (name, who)
            for name, is_used, who in (
                ("now", request.now is not None and not self.may("admin"), "needs the scope admin"),
                ("mode", self.publishable and request.mode != "live", "must be 'live' under a publishable key"),
                ("explain", self.publishable and request.explain, "must be false under a publishable key"),
            )
            if is_used
        ]
        for name, why in refused:
            raise Forbidden(f"{prefix}{name} {why}; leave it out, or use another key", where=f"{prefix}{name}")
        market = self.market_of(request.market, where=f"{prefix}market")
        return request if market == request.market else msgspec.structs.replace(request, market=market)

    def report_of(self, report: OutcomeReport, *, where: str = "") -> OutcomeReport:
        """What this caller reports; `where` is the report's place in a larger body.

        Raises:
            Forbidden: A service agent knows what a customer said to an offer, and nothing else.
        """
        if report.type not in ("accept", "reject") and not self.may("decide", "ingest"):
            prefix = f"{where}." if where else ""
            raise Forbidden(
                f"{prefix}type is '{report.type}', must be accept or reject under the scope agent; use another key",
                where=f"{prefix}type",
            )
        return report

    def may_see(self, record: DecisionRecord) -> bool:
        """Whether a decision that somebody else may have asked for is theirs to see."""
        return not self.publishable and self.market in (None, record.market)

    def error_of(self, error: NextmoveError) -> NextmoveError:
        """The error as this caller may see it: ids can be guessed, and a conflict carries the first decision."""
        if isinstance(error, DecisionConflict):
            first = error.first
            if isinstance(first, DecisionRecord) and not self.may_see(first):
                return DecisionConflict(error.message)
        return error


THIS_MACHINE = Caller("this machine", frozenset({"admin"}))


class Callers:
    """Everyone who may call.

    As long as there never was a key, and no issuer of tokens is set, whoever calls from this machine
    may do everything, and `serving.http.guard` lets nobody else in. Once there was a key, revoking the
    last one closes the service rather than open it.
    """

    def __init__(self) -> None:
        # Until it is read who may call, nobody may.
        self._keys: Mapping[str, tuple[bytes, Caller | None]] | None = None
        self._tokens: Tokens | None = None

    def take(self, keys: Iterable[ApiKey]) -> None:
        """From now on these keys count: all that ever were, the revoked ones too."""
        self._keys = {
            key.key_id: (
                key.sha256.encode(),
                Caller(key.name, frozenset(key.scopes), key.market, key.publishable)
                if key.revoked_at is None
                else None,
            )
            for key in keys
        }

    def take_tokens(self, tokens: Tokens) -> None:
        """From now on the issuer's tokens count too."""
        self._tokens = tokens

    @property
    def must_say(self) -> bool:
        """Whether a caller must say who they are."""
        return self._keys is None or bool(self._keys) or self._tokens is not None

    def by_headers(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers; `headers` finds names in lower case.

        Raises:
            Unauthorized: Nobody who may call.
        """
        if not self.must_say:
            return THIS_MACHINE
        key = headers.get("x-api-key")
        if key is not None:
            return self.by_key(key.strip())
        authorization = headers.get("authorization")
        if authorization is None:
            raise Unauthorized(
                "this service answers callers with a key; send it as X-API-Key, or as Authorization: Bearer",
                reason="missing",
            )
        scheme, _, credentials = authorization.strip().partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "bearer":
            is_key = credentials.startswith(f"{PREFIX}_") or self._tokens is None
            return self.by_key(credentials) if is_key else self._by_token(credentials)
        if scheme.lower() == "basic":
            user = user_of(authorization)
            if user is None:
                raise Unauthorized("Basic credentials must be a key as user, with no password", reason="malformed")
            return self.by_key(user)
        raise Unauthorized("authorization must be Bearer, or Basic with the key as user", reason="malformed")

    def by_key(self, token: str) -> Caller:
        """Whose key this is, whichever way it came.

        Raises:
            Unauthorized: Nobody's. It does not say why.
        """
        if not self.must_say:
            return THIS_MACHINE
        parts = parts_of(token)
        if parts is None:
            raise Unauthorized(f"what is sent is not a key, must be {PREFIX}_<id>_<secret>", reason="malformed")
        key_id, secret = parts
        expected, caller = (self._keys or {}).get(key_id, (_NO_HASH, None))
        if not hmac.compare_digest(hash_of(secret).encode(), expected) or caller is None:
            raise Unauthorized("the key is not valid; ask for one: nextmove keys create", reason="key")
        return caller

    def _by_token(self, token: str) -> Caller:
        assert self._tokens is not None
        claims = self._tokens.claims_of(token)
        return Caller(claims.subject, claims.scopes, claims.market)


def user_of(authorization: str) -> str | None:
    """The user of Basic credentials without a password: SDKs send their write key so. None where they are none.

    >>> user_of("Basic c2hvcDo=")
    'shop'
    """
    scheme, _, credentials = authorization.strip().partition(" ")
    try:
        user, colon, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):  # ValueError: not ASCII, or not UTF-8 below
        return None
    return user if scheme.lower() == "basic" and user and colon and not password else None
