"""Links by which a message can be unsubscribed from with one click (RFC 8058), without a key or a login.

A link names the customer and the channel, and is signed: nobody can make one for somebody else. It never
runs out, since messages are read years later. The first part is the version of how it is signed.
"""

import base64
import hashlib
import hmac
from typing import NamedTuple

import msgspec

from decisioning.errors import RequestError

PATH = "/v1/unsubscribe"
VERSION = "1"
SIGNATURE_BYTES = 16
MAX_LENGTH = 4096


class UnknownLink(RequestError):
    """A link that this service did not make."""

    code = "unknown_link"


class Meant(NamedTuple):
    """Who unsubscribes, and from what."""

    customer_id: str
    channel: str


class UnsubscribeLinks:
    """Makes links of one domain, and reads what comes back.

    >>> links = UnsubscribeLinks(b"a secret of at least 16", domain="shop")
    >>> links.read(links.token("c-1", "email"))
    Meant(customer_id='c-1', channel='email')
    """

    def __init__(self, secret: bytes, *, domain: str) -> None:
        self._secret = secret
        self._domain = domain

    def path(self, customer_id: str, channel: str) -> str:
        """The link, from the service's own address on."""
        return f"{PATH}/{self.token(customer_id, channel)}"

    def token(self, customer_id: str, channel: str) -> str:
        """What the link ends with: version, who and what, signature."""
        signed = f"{VERSION}.{_text(msgspec.json.encode((self._domain, customer_id, channel)))}"
        return f"{signed}.{_text(self._signature(signed))}"

    def read(self, token: str) -> Meant:
        """Who is meant.

        Raises:
            UnknownLink: This service did not make it. It does not say why.
        """
        try:
            signed, _, signature = token.rpartition(".")
            version, _, said = signed.partition(".")
            genuine = len(token) <= MAX_LENGTH and hmac.compare_digest(_bytes(signature), self._signature(signed))
            if not genuine or version != VERSION:
                raise _unknown()
            domain, customer_id, channel = msgspec.json.decode(_bytes(said), type=tuple[str, str, str])
        except (ValueError, msgspec.MsgspecError) as error:  # binascii's are ValueErrors
            raise _unknown() from error
        if domain != self._domain:
            raise _unknown()
        return Meant(customer_id, channel)

    def _signature(self, signed: str) -> bytes:
        return hmac.new(self._secret, f"nextmove unsubscribe {signed}".encode(), hashlib.sha256).digest()[
            :SIGNATURE_BYTES
        ]


def _unknown() -> UnknownLink:
    return UnknownLink("this link is not one of ours; copy all of it from the message", where="token")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
