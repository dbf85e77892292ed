"""What customers say of themselves, over HTTP: consent, preferences, one-click unsubscribe, `Sec-GPC`."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from html import escape
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from decisioning.errors import RequestError
from decisioning.request import AssignmentRequest, CallerId, DecisionRequest
from serving.customers import ConsentStatement, PreferencesStatement, Standing
from serving.engine import Engine
from serving.http.body import DECISION_LIMIT, content_of, convert, read_json
from serving.http.callers import Caller
from serving.http.problems import BodyTooLarge

Asked = TypeVar("Asked", DecisionRequest, AssignmentRequest)
MAX_STATEMENTS = 100
FORM_LIMIT = 4096
FIELD, ONE_CLICK = "List-Unsubscribe", "One-Click"
# The link itself must not get about: it is all that somebody needs.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'",
}


def honoured(request: Asked, headers: Mapping[str, str]) -> Asked:
    """The request with what the customer's browser asks for (Global Privacy Control)."""
    if headers.get("sec-gpc", "").strip() != "1" or request.global_privacy_control:
        return request
    return msgspec.structs.replace(request, global_privacy_control=True)


class CustomerRoutes:
    """One handler a route."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def consent(self, request: Request) -> Response:
        """`PUT /v1/customers/{customer_id}/consent`: one statement or a list of them."""
        customer_id = customer_in(request)
        body: Any = await read_json(request, object, limit=DECISION_LIMIT)
        items = body if isinstance(body, list) else [body]
        if not 1 <= len(items) <= MAX_STATEMENTS:
            raise RequestError(f"the list has {len(items)} statements, must have 1 to {MAX_STATEMENTS}")
        places = [f"[{place}]" if len(items) > 1 else "" for place in range(len(items))]
        said = [convert(item, ConsentStatement, where=place) for place, item in zip(places, items, strict=True)]
        return _json(
            await self._engine().customers.consent(
                customer_id, said, self._engine().release, actor=caller_in(request).name, now=datetime.now(UTC)
            )
        )

    async def preferences(self, request: Request) -> Response:
        """`PUT /v1/customers/{customer_id}/preferences`."""
        customer_id = customer_in(request)
        said = await read_json(request, PreferencesStatement, limit=DECISION_LIMIT)
        return _json(
            await self._engine().customers.prefer(
                customer_id, said, self._engine().release, actor=caller_in(request).name, now=datetime.now(UTC)
            )
        )

    async def unsubscribe_page(self, request: Request) -> Response:
        """`GET /v1/unsubscribe/{token}`: mail scanners follow links, so this one changes nothing."""
        meant = self._engine().links.read(request.path_params["token"])
        return _page(
            f"<h1>Unsubscribe</h1><p>You will get no more messages by {escape(meant.channel)}.</p>"
            f'<form method="post"><input type="hidden" name="{FIELD}" value="{ONE_CLICK}">'
            "<button>Unsubscribe</button></form>"
        )

    async def unsubscribe(self, request: Request) -> Response:
        """`POST /v1/unsubscribe/{token}`, as RFC 8058 has it."""
        engine = self._engine()
        meant = engine.links.read(request.path_params["token"])
        if not _is_one_click(request.headers.get("content-type", ""), await _form(request)):
            raise RequestError(f"the body must be the form {FIELD}={ONE_CLICK}", where=FIELD)
        domain, now = engine.release.domain, datetime.now(UTC)
        await engine.customers.unsubscribe(meant.customer_id, meant.channel, domain=domain, now=now)
        return _page(f"<h1>Done</h1><p>You get no more messages by {escape(meant.channel)}.</p>")


def customer_in(request: Request) -> str:
    """Whom the path names; a visitor is `anonymous:` and the visitor's id."""
    found: str = convert(request.path_params["customer_id"], CallerId, where="customer_id")
    return found


def caller_in(request: Request) -> Caller:
    """Who was let in."""
    caller: Caller = request.state.caller
    return caller


async def _form(request: Request) -> bytes:
    content = await content_of(request, FORM_LIMIT)
    if len(content) > FORM_LIMIT:
        raise BodyTooLarge(f"the body has more than {FORM_LIMIT:,} bytes, must be the form {FIELD}={ONE_CLICK}")
    return bytes(content)


def _is_one_click(media_type: str, body: bytes) -> bool:
    """Whether the form says so, in either of the two encodings that RFC 8058 allows."""
    if media_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return parse_qs(body.decode("latin-1")).get(FIELD) == [ONE_CLICK]
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + media_type.encode("latin-1") + b"\r\n\r\n" + body)
    parts = [part for part in message.iter_parts() if part.get_param("name", header="content-disposition") == FIELD]
    return [part.get_content().strip() for part in parts] == [ONE_CLICK]


def _page(content: str) -> Response:
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Unsubscribe</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>body { font: 18px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 4rem auto; padding: 0 1rem }"
        " button { font: inherit; padding: .6rem 1.2rem }</style>"
        f"</head><body>{content}</body></html>",
        headers=PAGE_HEADERS,
    )


def _json(standing: Standing) -> Response:
    return Response(msgspec.json.encode(standing), media_type="application/json")
