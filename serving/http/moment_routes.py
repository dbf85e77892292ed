"""`/v1/moments`: a channel fetches the answers that it is to deliver, and says what became of them.

The scope is `ingest`: who delivers messages also tells what became of them, and is no shop page that asks for
decisions.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.errors import RequestError
from serving.http.body import DECISION_LIMIT, read_optional_json
from serving.http.callers import Caller
from serving.moments import Acknowledgement, Moments

MOST, USUAL = 1000, 100


class MomentRoutes:
    """One handler a route."""

    def __init__(self, moments: Callable[[], Moments]) -> None:
        self._moments = moments

    async def hand_out(self, request: Request) -> Response:
        """`GET /v1/moments`."""
        caller: Caller = request.state.caller
        asked = request.query_params
        found = await self._moments().hand_out(
            channel=asked.get("channel"),
            market=caller.market_of(asked.get("market")),
            limit=_limit(asked.get("limit")),
            now=datetime.now(UTC),
        )
        return Response(msgspec.json.encode({"moments": found}), media_type="application/json")

    async def acknowledge(self, request: Request) -> Response:
        """`POST /v1/moments/{moment_id}/ack`."""
        caller: Caller = request.state.caller
        said = await read_optional_json(request, Acknowledgement, limit=DECISION_LIMIT) or Acknowledgement()
        state = await self._moments().acknowledge(
            request.path_params["moment_id"], said, market=caller.market, source=caller.name, now=datetime.now(UTC)
        )
        return Response(msgspec.json.encode(state), media_type="application/json")


def _limit(said: str | None) -> int:
    limit = USUAL if said is None else int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else 0
    if not 1 <= limit <= MOST:
        raise RequestError(f"limit is '{(said or '')[:20]}', must be a whole number from 1 to {MOST}", where="limit")
    return limit
