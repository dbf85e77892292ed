"""The event routes: `/v1/track` and its like, as the Segment HTTP tracking API has them."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.errors import RequestError
from decisioning.events import EventType
from serving.engine import Engine
from serving.events import Reported, Taken
from serving.http.body import check_media_type, content_of
from serving.http.callers import THIS_MACHINE, Caller, Callers, user_of
from serving.http.metrics import Metrics
from serving.http.problems import Problem, problem_of
from serving.http.segment import BATCH_LIMIT, Call, Sender, batch_call, inflated, single_call, too_large, write_key_of

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


EVENT_PATHS = frozenset({"/v1/batch", *(f"/v1/{kind}" for kind in get_args(EventType))})
LOCAL_SOURCE = "local"
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


async def caller_of(request: Request, callers: Callers) -> Caller:
    """Who sends events: by the headers, or by the `writeKey` in the body, where these clients may put it.

    Raises:
        Unauthorized: Nobody who may call.
    """
    headers = request.headers
    if callers.must_say and not ("x-api-key" in headers or "authorization" in headers):
        try:
            key = write_key_of(await _body(request))
        except RequestError:  # strangers are not told what is wrong with what they send
            key = None
        if key is not None:
            return callers.by_key(key)
    return callers.by_headers(headers)


class EventRoutes:
    """One handler a call."""

    def __init__(self, engine: Callable[[], Engine], metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    def single(self, kind: EventType) -> Handler:
        """`POST /v1/track` and its like."""

        async def handler(request: Request) -> Response:
            content = await _body(request)
            sender = _sender_of(request, content)
            now = datetime.now(UTC)
            return await self._take(single_call(content, kind, sender, now=now), sender, now=now)

        return handler

    async def batch(self, request: Request) -> Response:
        """`POST /v1/batch`."""
        content = await _body(request)
        sender, now = _sender_of(request, content), datetime.now(UTC)
        return await self._take(batch_call(content, sender, now=now), sender, now=now)

    async def _take(self, call: Call, sender: Sender, *, now: datetime) -> Response:
        """Keep what can be kept, and say of each item what became of it."""
        good = [item for item in call.items if isinstance(item, Reported)]
        taken = iter(await self._engine().record_events(good))
        self._engine().feeds.rejected(sender.source, len(call.items) - len(good), now=now)
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


def _sender_of(request: Request, content: bytes) -> Sender:
    """Who tells, and of which market: by the key's name; without keys, by whatever the client sends as one."""
    caller: Caller = request.state.caller
    if caller is not THIS_MACHINE:
        return Sender(caller.name, caller.market)
    said = write_key_of(content) or user_of(request.headers.get("authorization", "")) or ""
    return Sender(said if _SOURCE_NAME.fullmatch(said) else LOCAL_SOURCE, None)


async def _body(request: Request) -> bytes:
    """The body, plain; asked for twice, it is read once.

    Raises:
        WrongMediaType, EventTooLarge, MalformedJson: It cannot be read.
    """
    known: bytes | None = getattr(request.state, "content", None)
    if known is None:
        check_media_type(request)
        received = await content_of(request, BATCH_LIMIT)
        if len(received) > BATCH_LIMIT:
            raise too_large(BATCH_LIMIT)
        compressed = request.headers.get("content-encoding", "").lower() == "gzip"
        known = request.state.content = inflated(received, limit=BATCH_LIMIT) if compressed else bytes(received)
    return known
