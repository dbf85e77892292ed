"""The event routes: `/v1/track` and its like, as the Segment HTTP tracking API has them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.errors import RequestError
from decisioning.events import EventType
from serving.engine import Engine
from serving.events import Reported, Taken
from serving.http.body import check_media_type, content_of
from serving.http.metrics import Metrics
from serving.http.problems import Problem, problem_of
from serving.http.segment import BATCH_LIMIT, ITEM_LIMIT, Call, batch_call, inflated, single_call, too_large

Handler = Callable[[Request], Awaitable[Response]]


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event: `accepted`, `duplicate`, `ignored` or `rejected` with its problem."""

    status: str
    message_id: str | None = None
    problem: Problem | None = None


class EventsAnswer(msgspec.Struct, frozen=True):
    """A result for each event, in their order; `success` is what clients of this API look for."""

    success: bool
    results: list[EventResult]


class EventRoutes:
    """One handler a call; `source` says by whom a request comes."""

    def __init__(self, engine: Callable[[], Engine], metrics: Metrics, *, source: Callable[[Request], str]) -> None:
        self._engine = engine
        self._metrics = metrics
        self._source = source

    def single(self, kind: EventType) -> Handler:
        """`POST /v1/track` and its like."""

        async def handler(request: Request) -> Response:
            content = await _body(request, ITEM_LIMIT)
            now = datetime.now(UTC)
            return await self._take(single_call(content, kind, source=self._source(request), now=now))

        return handler

    async def batch(self, request: Request) -> Response:
        """`POST /v1/batch`."""
        content = await _body(request, BATCH_LIMIT)
        return await self._take(batch_call(content, source=self._source(request), now=datetime.now(UTC)))

    async def _take(self, call: Call) -> Response:
        """Keep what can be kept, and say of each item what became of it."""
        taken = iter(await self._engine().record_events([item for item in call.items if isinstance(item, Reported)]))
        results = []
        for item, message_id in zip(call.items, call.message_ids, strict=True):
            if isinstance(item, RequestError):
                results.append(EventResult("rejected", message_id, problem_of(item)))
                self._metrics.events.labels("unknown", "rejected").inc()
            else:
                became: Taken = next(taken)
                results.append(EventResult(became.status, message_id))
                self._metrics.events.labels(item.event.type, became.status).inc()
                if not became.mapped:
                    self._metrics.unmapped_events.inc()
        answer = EventsAnswer(success=True, results=results)
        return Response(msgspec.json.encode(answer), media_type="application/json")


async def _body(request: Request, limit: int) -> bytes:
    """The body, plain.

    Raises:
        WrongMediaType, EventTooLarge, MalformedJson: It cannot be read.
    """
    check_media_type(request)
    content = await content_of(request, limit)
    if len(content) > limit:
        raise too_large(limit)
    if request.headers.get("content-encoding", "").lower() == "gzip":
        return inflated(content, limit=limit)
    return bytes(content)
