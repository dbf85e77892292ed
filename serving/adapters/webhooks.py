"""Calls to receivers of moments, signed as the Standard Webhooks specification says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Where a name leads is looked up for every call, and each address that it has must be public: then the call goes
to one of the addresses that were checked, so that the name cannot lead elsewhere in between.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from serving.adapters.addresses import is_public
from serving.ports import Received
from storage.webhook_targets import WebhookTarget

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
TOTAL_SECONDS = 15.0
LOOKUPS = 8  # threads; one that hangs holds up other look-ups at most
_GONE = 410


class SignedWebhooks:
    """Receivers over HTTP; of one event loop."""

    def __init__(
        self,
        targets: Mapping[str, WebhookTarget],
        *,
        read_seconds: float = READ_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._targets = targets
        self._total_seconds = total_seconds
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-lookup")
        # A kept connection would belong to an address, and another receiver may have the same one.
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # no proxy
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of those that are known here."""
        return tuple(self._targets)

    async def close(self) -> None:
        """Let go of connections."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()

    async def send(self, target: str, message_id: str, body: bytes, *, now: datetime) -> Received:
        """Deliver once, within `TOTAL_SECONDS`; it does not raise."""
        receiver = self._targets[target]
        headers = {
            "content-type": "application/json",
            "user-agent": "nextmove",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature(receiver.secret, message_id, now, body),
        }
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._call(receiver, headers, body, now)
        except TimeoutError:
            return Received("failed", f"no answer within {self._total_seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Received("failed", str(error) or type(error).__name__)

    async def _call(self, receiver: WebhookTarget, headers: dict[str, str], body: bytes, now: datetime) -> Received:
        url = httpx.URL(receiver.url)
        unreachable: httpx.HTTPError | None = None
        for address in await self._addresses(url, receiver):
            request = self._client.build_request(
                "POST",
                url.copy_with(host=address),
                headers={**headers, "host": url.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": url.host},
            )
            try:
                response = await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                unreachable = error
                continue
            try:
                return _received(response, now)  # nobody reads the body, however long it is
            finally:
                await response.aclose()
        raise unreachable or OSError(f"'{url.host}' has no address")

    async def _addresses(self, url: httpx.URL, receiver: WebhookTarget) -> list[str]:
        """The receiver's addresses.

        Raises:
            OSError: There is none, or one that is not public.
        """
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._lookups, _lookup, url.host, port)
        addresses = list(dict.fromkeys(found))
        refused = [address for address in addresses if not (receiver.allow_private or is_public(address))]
        if refused:
            raise OSError(f"'{url.host}' leads to {refused[0]}, which is not public; allow_private = true allows it")
        return addresses


def signature(secret: bytes, message_id: str, at: datetime, body: bytes) -> str:
    """What the header `webhook-signature` says.

    The specification's own example:

    >>> from datetime import UTC
    >>> key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> at = datetime.fromtimestamp(1614265330, UTC)
    >>> signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{message_id}.{int(at.timestamp())}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}"


def _lookup(host: str, port: int) -> list[str]:
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _received(response: httpx.Response, now: datetime) -> Received:
    said = f"answered {response.status_code}"
    if response.is_success:
        return Received("delivered", said)
    if response.status_code == _GONE:
        return Received("gone", said)
    return Received("failed", said, _retry_after(response.headers.get("retry-after"), now))


def _retry_after(said: str | None, now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110, section 10.2.3); what is neither says nothing.

    >>> _retry_after("120", datetime(2026, 1, 1))
    datetime.timedelta(seconds=120)
    """
    try:
        if said is None or said.isdecimal():
            return None if said is None else timedelta(seconds=int(said))
        at = parsedate_to_datetime(said)
        return max(at - now, timedelta(0)) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None
