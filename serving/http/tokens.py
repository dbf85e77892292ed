"""JSON Web Tokens that an issuer of the operator's choice signed: RFC 7519, as RFC 8725 advises to check them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import jwt

from serving.http.problems import Unauthorized
from storage.keys import SCOPES

# Signatures that only the issuer can make. Never `none`, and never HS*: who can check those can make them.
ALGORITHMS = ("RS256", "ES256", "EdDSA")
LEEWAY = timedelta(seconds=30)  # clocks differ
LONGEST = 256


class Claims(NamedTuple):
    """What a token says that concerns us."""

    subject: str
    scopes: frozenset[str]
    market: str | None


class Tokens:
    """Checks tokens of one issuer, meant for one audience."""

    def __init__(self, *, issuer: str, audience: str, key_of: Callable[[str], jwt.PyJWK | None]) -> None:
        """`key_of` finds the issuer's public key by its id (`kid`)."""
        self._issuer = issuer
        self._audience = audience
        self._key_of = key_of

    def claims_of(self, token: str) -> Claims:
        """What a valid token says.

        Raises:
            Unauthorized: It is not valid; the message says why, and never repeats it.
        """
        try:
            claims = self._checked(token)
        except Unauthorized:
            raise
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("the token has expired; fetch a new one", reason="expired") from error
        except Exception as error:  # whatever a stranger's text makes a parser raise
            raise _refused(_why(error)) from error
        subject, scope, market = claims["sub"], claims.get("scope", ""), claims.get("market")
        if not (1 <= len(subject) <= LONGEST and subject.isprintable()):
            raise _refused(f"its sub must have 1 to {LONGEST} printable characters")
        if not isinstance(scope, str):
            raise _refused("its scope must be text, with spaces between scopes")
        if not (market is None or (isinstance(market, str) and market)):
            raise _refused("its market must be text, or left out")
        return Claims(subject, frozenset(scope.split()).intersection(SCOPES), market)

    def _checked(self, token: str) -> dict[str, Any]:
        kid = jwt.get_unverified_header(token).get("kid")
        key = self._key_of(kid) if isinstance(kid, str) else None
        if key is None:
            raise _refused("its kid must name a key of the issuer")
        return jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"the token is not valid: {why}", reason="token")


def _why(error: Exception) -> str:
    """In words of ours: the library's may repeat what was sent."""
    for kind, why in (
        (jwt.InvalidAudienceError, "its aud is not this service"),
        (jwt.InvalidIssuerError, "its iss is not the issuer that is set"),
        (jwt.InvalidSignatureError, "its signature is not the issuer's"),
        (jwt.InvalidAlgorithmError, f"its alg must be that of the issuer's key, one of {', '.join(ALGORITHMS)}"),
        (jwt.InvalidKeyError, "the issuer's key is too short"),
        (jwt.ImmatureSignatureError, "its time has not come"),
        (jwt.MissingRequiredClaimError, "it must have exp, iss, aud and sub"),
    ):
        if isinstance(error, kind):
            return why
    return "it cannot be read"
