"""Where moments are sent: addresses and secrets, from a file that is no part of the catalogue.

They differ between machines, and a secret is nobody's business who writes a catalogue.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from decisioning.errors import SetupError
from storage.secret_tables import secret_table
from storage.settings import Settings

# As the Standard Webhooks specification says.
SECRET_PREFIX = "whsec_"  # noqa: S105 (no secret)
SHORTEST, LONGEST = 24, 64


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """A receiver.

    Attributes:
        url: https, or http where `allow_private`.
        secret: What calls are signed with.
        allow_private: Whether it may be an address that is not public: in the own network, or this machine.
    """

    url: str
    secret: bytes = field(repr=False)
    allow_private: bool = False


def read_webhooks(settings: Settings) -> Mapping[str, WebhookTarget]:
    """Every receiver by its name. None without a file.

    Raises:
        SetupError: The file cannot be read, or one of its entries is wrong. It never says a secret.
    """
    path = settings.webhooks
    if path is None:
        return {}
    entries = secret_table(path, setting="webhooks", example='[crm] url = "..." secret = "..."')
    targets = {}
    for name, entry in entries.items():
        try:
            targets[name] = _target(entry)
        except ValueError as error:
            said = f"[{name}] in the file {path} of the setting webhooks: {error}"
            raise SetupError(said, where="webhooks") from error
    return targets


def _target(entry: Any) -> WebhookTarget:
    if not isinstance(entry, dict):
        raise ValueError("must be a table with url and secret")
    unknown = sorted(set(entry) - {"url", "secret", "allow_private"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not known, must be one of url, secret, allow_private")
    allow_private = entry.get("allow_private", False)
    if not isinstance(allow_private, bool):
        raise ValueError("allow_private must be true or false")
    return WebhookTarget(_url(entry.get("url"), allow_private), _secret(entry.get("secret")), allow_private)


def _url(url: Any, allow_private: bool) -> str:
    if not isinstance(url, str) or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("url must be an address like https://crm.example.com/moments, in ASCII (a name as xn--...)")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url is no address: {error}") from error
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise ValueError(f"url begins with '{parts.scheme}:', must be https (http only with allow_private = true)")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("url must name a host, without a user, a password or a fragment")
    return url


def _secret(secret: Any) -> bytes:
    wrong = ValueError(
        f'secret must be {SECRET_PREFIX} and {SHORTEST} to {LONGEST} bytes as base64; make one: echo "{SECRET_PREFIX}'
        '$(openssl rand -base64 32)"'
    )
    if not isinstance(secret, str) or not secret.startswith(SECRET_PREFIX):
        raise wrong
    try:
        raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    if not SHORTEST <= len(raw) <= LONGEST:
        raise wrong
    return raw
