"""`/v1/assignments`: the variants of a customer, for callers who need no action ranked."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.answer import AnsweredAssignment
from decisioning.request import AssignmentRequest
from serving.engine import Engine
from serving.http.body import DECISION_LIMIT, read_json
from serving.http.customer_routes import caller_in, honoured


class AssignmentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/assignments`: the experiments that the customer takes part in."""

    customer_id: str | None
    anonymous_id: str | None
    experiments: list[AnsweredAssignment]
    catalog_version: str


class AssignmentRoutes:
    """One handler a route."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def assign(self, request: Request) -> Response:
        """`POST /v1/assignments`."""
        caller = caller_in(request)
        asked = honoured(await read_json(request, AssignmentRequest, limit=DECISION_LIMIT), request.headers)
        asked = msgspec.structs.replace(asked, market=caller.market_of(asked.market))
        found = await self._engine().assign(asked, now=datetime.now(UTC), stored_first=caller.publishable)
        answer = AssignmentsAnswer(
            customer_id=asked.customer_id,
            anonymous_id=asked.anonymous_id,
            experiments=[AnsweredAssignment(a.experiment, a.variant, a.reason, a.payload) for a in found.assignments],
            catalog_version=found.catalog.version,
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")
