"""One view of a customer, all that is held on them, and erasure, over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serving.engine import Engine
from serving.http.callers import Caller
from serving.http.customer_routes import caller_in, customer_in
from serving.http.problems import Forbidden, NoSuchCustomer, NoSuchRequest
from serving.privacy import Privacy


class PrivacyRoutes:
    """One handler a route."""

    def __init__(self, engine: Callable[[], Engine], privacy: Callable[[], Privacy]) -> None:
        self._engine = engine
        self._privacy = privacy

    async def view(self, request: Request) -> Response:
        """`GET /v1/customers/{customer_id}`."""
        customer_id, caller = customer_in(request), caller_in(request)
        found = await self._privacy().view(
            customer_id, self._engine().release, market=caller.market, sees=caller.may_see, now=datetime.now(UTC)
        )
        if found is None:
            raise _nobody(customer_id)
        return _json(found)

    async def export(self, request: Request) -> Response:
        """`GET /v1/customers/{customer_id}/export`."""
        _must_see_all(caller_in(request))
        customer_id, now = customer_in(request), datetime.now(UTC)
        document = await self._privacy().export(customer_id, now=now)
        if document is None:
            raise _nobody(customer_id)
        return StreamingResponse(document, media_type="application/json")

    async def erase(self, request: Request) -> Response:
        """`DELETE /v1/customers/{customer_id}`."""
        _must_see_all(caller_in(request))
        actor, now = caller_in(request).name, datetime.now(UTC)
        return _json(await self._privacy().erase(customer_in(request), actor=actor, now=now), 202)

    async def request(self, request: Request) -> Response:
        """`GET /v1/privacy/requests/{request_id}`."""
        request_id = request.path_params["request_id"]
        found = await self._privacy().request(request_id)
        if found is None:
            raise NoSuchRequest(f"there is no request '{request_id[:64]}'", where="request_id")
        return _json(found)


def _must_see_all(caller: Caller) -> None:
    """Refuse a caller of one market: a person is one in all of them.

    Raises:
        Forbidden: They are bound to a market.
    """
    if caller.market is not None:
        raise Forbidden(
            f"this call is about every market, the caller may ask for '{caller.market}' alone; use another key"
        )


def _nobody(customer_id: str) -> NoSuchCustomer:
    return NoSuchCustomer(f"nothing is known of a customer '{customer_id}'", where="customer_id")


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
