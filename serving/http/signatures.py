"""Whether a call of a provider's hook is the provider's.

| format | proof | secret |
|---|---|---|
| `sendgrid` | ECDSA (P-256, SHA-256) over time and body, in two headers | the verification key, as SendGrid shows it |
| `brevo` | no signature: `Authorization`, Bearer or Basic | the token, or `user:password` |
| `segment` | HMAC-SHA1 over the body, hexadecimal, in `X-Signature` | the shared secret |
| `custom` | HMAC-SHA256 over the body, hexadecimal, in a header that the catalogue names | the shared secret |

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
https://developers.brevo.com/docs/username-and-password-authentication
https://www.twilio.com/docs/segment/connections/destinations/catalog/actions-webhook
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from decisioning.errors import SetupError
from decisioning.event_content import Hook
from serving.http.problems import Unauthorized

SENDGRID_SIGNATURE = "x-twilio-email-event-webhook-signature"
SENDGRID_TIME = "x-twilio-email-event-webhook-timestamp"
SEGMENT_SIGNATURE = "x-signature"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_signature(hook: Hook, secret: str, headers: Mapping[str, str], content: bytes, *, now: datetime) -> None:
    """See that the holder of the secret sent this body; `headers` finds names in lower case.

    Raises:
        Unauthorized: Nothing says so, or not for now. SetupError: The secret cannot be one of this format.
    """
    if hook.format == "sendgrid":
        _check_sendgrid(hook, secret, headers, content, now)
    elif hook.format == "brevo":
        if not _same(_credentials(headers.get("authorization", "")), secret.encode()):
            raise _refused("authorization is missing or wrong, must be the token or user and password of the webhook")
    elif hook.format == "segment":
        # Of a batch Segment signs the first event alone: nothing would vouch for the others.
        _check_hmac(SEGMENT_SIGNATURE, "sha1", secret, headers, content, hint="; in Segment, turn batching off")
    else:
        assert hook.verify.header is not None  # the catalogue's check sees to it
        _check_hmac(hook.verify.header.lower(), "sha256", secret, headers, content)


def _check_sendgrid(hook: Hook, secret: str, headers: Mapping[str, str], content: bytes, now: datetime) -> None:
    key = _public_key(secret)
    if key is None:
        raise SetupError(
            f"the secret of '{hook.id}' in the file of the setting hook_secrets is no verification key of SendGrid;"
            " copy it from the settings of the signed event webhook",
            where="hook_secrets",
        )
    time = headers.get(SENDGRID_TIME, "")
    try:
        signature = base64.b64decode(headers.get(SENDGRID_SIGNATURE, ""), validate=True)
        key.verify(signature, time.encode() + content, ECDSA(SHA256()))
        signed_at = _EPOCH + timedelta(seconds=int(time))
    except (InvalidSignature, binascii.Error, ValueError, OverflowError) as error:
        raise _refused(f"{SENDGRID_SIGNATURE} is missing or not that of {SENDGRID_TIME} and body") from error
    if abs(now - signed_at) > hook.verify.tolerance:
        raise _refused(
            f"{SENDGRID_TIME} is {signed_at.isoformat()}, must be within {hook.verify.tolerance} of {now.isoformat()}"
        )


@lru_cache(maxsize=64)
def _public_key(secret: str) -> EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(base64.b64decode(secret, validate=True))
    except Exception:  # whatever is wrong with it, it is none
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None


def _credentials(authorization: str) -> bytes:
    """The token, or `user:password`."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode()
    try:
        return base64.b64decode(credentials.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""


def _check_hmac(
    header: str, digest: str, secret: str, headers: Mapping[str, str], content: bytes, *, hint: str = ""
) -> None:
    expected = hmac.digest(secret.encode(), content, digest).hex()
    if not _same(headers.get(header, "").removeprefix(f"{digest}=").lower().encode(), expected.encode()):
        raise _refused(f"{header} is missing or not that of the body{hint}")


def _same(offered: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(offered, expected)


def _refused(message: str) -> Unauthorized:
    return Unauthorized(message, reason="signature")
