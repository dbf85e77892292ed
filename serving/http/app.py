"""The HTTP routes: bytes in, engine, bytes out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route

from decisioning.answer import DecisionAnswer, DecisionAnswers, answer
from decisioning.errors import NextmoveError, RequestError, SetupError, StoreError, UnknownDecision
from decisioning.events import EventType
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from serving.engine import Engine
from serving.http.assignment_routes import AssignmentRoutes
from serving.http.body import BATCH_LIMIT, DECISION_LIMIT, convert, read_json, read_optional_json
from serving.http.callers import Caller, Callers
from serving.http.customer_routes import CustomerRoutes, honoured
from serving.http.event_routes import EVENT_PATHS, EventRoutes, caller_of
from serving.http.hook_routes import HookRoutes, Secrets
from serving.http.metrics import Metrics
from serving.http.moment_routes import MomentRoutes
from serving.http.ofrep import OfrepRoutes
from serving.http.openapi import docs_page, openapi_document
from serving.http.privacy_routes import PrivacyRoutes
from serving.http.problems import (
    InternalError,
    MethodNotAllowed,
    NoSuchAction,
    NotFound,
    Problem,
    Unauthorized,
    problem_of,
    problem_response,
)
from serving.moments import Moments
from serving.outcomes import OutcomeResult
from serving.pauses import PauseRequest
from serving.privacy import Privacy
from storage.catalog_schema import catalog_schema

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]
MAX_BATCH = 1000
_KEPT_AS_ARRAYS = (
    "candidates", "contacts", "account_contacts", "consents", "withdrawn", "purchases", "events", "budgets", "dropped",
)  # fmt: skip
OPEN = ()  # scopes of a route that needs no key
ELSEWHERE = ("/v1", "/v1/{rest:path}", "/ofrep/{rest:path}")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class DecisionBatch(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 1,000 requests; each item is checked on its own."""

    requests: list[Any]


class OutcomeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one outcome."""

    status: str
    outcome_id: str | None = None
    problem: Problem | None = None


def table(routes: "Routes") -> list[tuple[str, str, tuple[str, ...], Handler]]:
    """Every route: its method, its path, the scopes of which a caller needs one, and who answers."""
    return [
        ("POST", "/v1/decisions", ("decide",), routes.decide),
        ("POST", "/v1/decisions/batch", ("decide",), routes.decide_batch),
        ("GET", "/v1/decisions/{decision_id:path}", ("admin", "marketing"), routes.find_decision),
        ("POST", "/v1/decisions/{decision_id:path}/replay", ("admin",), routes.replay),
        ("POST", "/v1/assignments", ("decide",), routes.assignments.assign),
        ("POST", "/ofrep/v1/evaluate/flags", ("decide",), routes.ofrep.all),
        ("POST", "/ofrep/v1/evaluate/flags/{key:path}", ("decide",), routes.ofrep.one),
        ("POST", "/v1/outcomes", ("decide", "ingest", "agent"), routes.outcomes),
        *(("POST", f"/v1/{kind}", ("ingest",), routes.events.single(kind)) for kind in get_args(EventType)),
        ("POST", "/v1/batch", ("ingest",), routes.events.batch),
        ("PUT", "/v1/customers/{customer_id:path}/consent", ("agent", "ingest"), routes.customers.consent),
        ("PUT", "/v1/customers/{customer_id:path}/preferences", ("agent", "ingest"), routes.customers.preferences),
        ("GET", "/v1/customers/{customer_id:path}/export", ("admin",), routes.privacy.export),
        ("GET", "/v1/customers/{customer_id:path}", ("admin", "agent"), routes.privacy.view),
        ("DELETE", "/v1/customers/{customer_id:path}", ("admin",), routes.privacy.erase),
        ("GET", "/v1/privacy/requests/{request_id}", ("admin",), routes.privacy.request),
        ("GET", "/v1/unsubscribe/{token}", OPEN, routes.customers.unsubscribe_page),
        ("POST", "/v1/unsubscribe/{token}", OPEN, routes.customers.unsubscribe),
        ("POST", "/v1/hooks/{source}", OPEN, routes.hooks.take),  # the provider's signature lets it in
        ("GET", "/v1/moments", ("ingest",), routes.moments.hand_out),
        ("POST", "/v1/moments/{moment_id}/ack", ("ingest",), routes.moments.acknowledge),
        ("GET", "/v1/catalog", ("decide", "marketing"), routes.catalog),
        ("GET", "/v1/catalog/schema.json", OPEN, routes.catalog_schema),
        ("POST", "/v1/actions/{action_id}/pause", ("marketing",), routes.pause),
        ("POST", "/v1/actions/{action_id}/resume", ("marketing",), routes.resume),
        ("GET", "/v1/openapi.json", OPEN, routes.openapi),
        ("GET", "/v1/docs", OPEN, routes.docs),
        ("GET", "/metrics", OPEN, routes.metrics),
    ]


def create_app(routes: "Routes", metrics: Metrics, callers: Callers, *, origins: Sequence[str] = ()) -> Starlette:
    """The application over these routes, for these callers; pages of these sites may call it from browsers."""
    # BentoML answers what no route of ours takes, and not with a problem.
    others = [Route(path, _nothing_here, methods=METHODS) for path in ELSEWHERE]
    return Starlette(
        routes=[
            *(
                Route(path, _guarded(path, handler, metrics, callers, scopes), methods=[method])
                for method, path, scopes, handler in table(routes)
            ),
            *others,
        ],
        exception_handlers={HTTPException: _no_such_route},
        # No cookies: who calls says so in a header, which no other site can make a browser send.
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "PUT"],
                allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-API-Key"],
                expose_headers=["ETag"],
            )
        ]
        if origins
        else [],
    )


def _no_privacy() -> Privacy:
    raise SetupError("the service is not open yet; ask /readyz")


class Routes:
    """One method a route, over an engine that is asked for at each call since it is opened later."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        metrics: Metrics,
        *,
        hook_secrets: Secrets = dict,
        moments: Callable[[], Moments] | None = None,
        privacy: Callable[[], Privacy] = _no_privacy,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self.events = EventRoutes(engine, metrics)
        self.assignments = AssignmentRoutes(engine)
        self.ofrep = OfrepRoutes(engine)
        self.customers = CustomerRoutes(engine)
        self.privacy = PrivacyRoutes(engine, privacy)
        self.hooks = HookRoutes(engine, metrics, hook_secrets)
        self.moments = MomentRoutes(moments or _no_moments)

    async def decide(self, request: Request) -> Response:
        """`POST /v1/decisions`."""
        body = honoured(await read_json(request, DecisionRequest, limit=DECISION_LIMIT), request.headers)
        return _json(await self.answer(body, _caller(request)))

    async def answer(self, request: DecisionRequest, caller: Caller) -> DecisionAnswer | DecisionAnswers:
        """The answer to one request, as this caller may ask it, counted."""
        asked = caller.request_of(request)
        records = await self._engine().decide_placements(asked, now=datetime.now(UTC), stored_first=caller.publishable)
        return self._answer(asked, records)

    async def decide_batch(self, request: Request) -> Response:
        """`POST /v1/decisions/batch`."""
        batch = await read_json(request, DecisionBatch, limit=BATCH_LIMIT)
        if not 1 <= len(batch.requests) <= MAX_BATCH:
            raise RequestError(
                f"requests has {len(batch.requests)} items, must have 1 to {MAX_BATCH}", where="requests"
            )
        caller = _caller(request)
        results: list[dict[str, Any]] = [{} for _ in batch.requests]
        valid: list[tuple[int, DecisionRequest]] = []
        for index, item in enumerate(batch.requests):
            try:
                where = f"requests[{index}]"
                asked = honoured(convert(item, DecisionRequest, where=where), request.headers)
                valid.append((index, caller.request_of(asked, where=where)))
            except RequestError as error:
                results[index] = {"problem": problem_of(error)}
        decided = await self._engine().decide_many(
            [body for _, body in valid], now=datetime.now(UTC), stored_first=caller.publishable
        )
        for (index, body), result in zip(valid, decided, strict=True):
            if isinstance(result, Exception):
                results[index] = {"problem": problem_of(caller.error_of(_ours(result)))}
            elif body.placements is None:
                results[index] = {"decision": self._answer(body, result)}
            else:
                results[index] = msgspec.to_builtins(self._answer(body, result))
        return _json({"results": results})

    async def find_decision(self, request: Request) -> Response:
        """`GET /v1/decisions/{decision_id}`."""
        record = await self._find(request)
        return _json({"answer": answer(record), "record": record_document(record)})

    async def _find(self, request: Request) -> DecisionRecord:
        """The decision in the path. One that the caller may not see is not there."""
        decision_id = request.path_params["decision_id"]
        record = await self._engine().find(decision_id)
        if record is None or not _caller(request).may_see(record):
            raise UnknownDecision(f"no decision has the id '{decision_id[:256]}'", where="decision_id")
        return record

    async def outcomes(self, request: Request) -> Response:
        """`POST /v1/outcomes`: one outcome, or a list with a result for each."""
        body: Any = await read_json(request, object, limit=BATCH_LIMIT)
        now, caller = datetime.now(UTC), _caller(request)
        if not isinstance(body, list):
            report = caller.report_of(convert(body, OutcomeReport, where=""))
            [result] = await self._record([report], caller, now)
            self._count_outcome(result)
            if result.problem is not None:
                raise result.problem
            return _json(_outcome_answer(result), 202)
        if not 1 <= len(body) <= MAX_BATCH:
            raise RequestError(f"the list has {len(body)} outcomes, must have 1 to {MAX_BATCH}")
        answers: list[OutcomeAnswer | None] = [None] * len(body)
        valid: list[tuple[int, OutcomeReport]] = []
        for index, item in enumerate(body):
            try:
                where = f"[{index}]"
                valid.append((index, caller.report_of(convert(item, OutcomeReport, where=where), where=where)))
            except RequestError as error:
                answers[index] = OutcomeAnswer("rejected", None, problem_of(error))
        results = await self._record([report for _, report in valid], caller, now)
        for (index, _), result in zip(valid, results, strict=True):
            self._count_outcome(result)
            answers[index] = _outcome_answer(result)
        return _json({"results": answers}, 202)

    async def _record(self, reports: Sequence[OutcomeReport], caller: Caller, now: datetime) -> list[OutcomeResult]:
        return await self._engine().record_outcomes(reports, now=now, source=caller.name, market=caller.market)

    async def catalog(self, request: Request) -> Response:
        """`GET /v1/catalog`: what is served now, in one market."""
        engine = self._engine()
        catalog = engine.release.of(_caller(request).market_of(request.query_params.get("market")))
        content = msgspec.to_builtins(catalog.content)
        for experiment in content["experiments"]:
            del experiment["testers"]  # ids of people
        try:
            paused = await engine.paused(now=datetime.now(UTC))
        except StoreError:
            paused = None
        markets = sorted(engine.release.markets)
        return _json({"version": catalog.version, "markets": markets, "paused": paused, **content})

    async def catalog_schema(self, _: Request) -> Response:
        """`GET /v1/catalog/schema.json`: what a catalogue file may hold, for editors."""
        return _json(catalog_schema())

    async def pause(self, request: Request) -> Response:
        """`POST /v1/actions/{action_id}/pause`."""
        return await self._pause(request, paused=True)

    async def resume(self, request: Request) -> Response:
        """`POST /v1/actions/{action_id}/resume`."""
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> Response:
        action_id = request.path_params["action_id"]
        engine = self._engine()
        if not any(action_id in catalog.actions for catalog in engine.release.markets.values()):
            raise NoSuchAction(
                f"the catalogue has no action '{action_id[:256]}'; GET /v1/catalog lists them", where="action_id"
            )
        body = await read_optional_json(request, PauseRequest, limit=DECISION_LIMIT) or PauseRequest()
        caller = _caller(request)
        body = msgspec.structs.replace(body, market=caller.market_of(body.market))
        now = datetime.now(UTC)
        return _json(await engine.pause(action_id, body, paused=paused, actor=caller.name, now=now))

    async def replay(self, request: Request) -> Response:
        """`POST /v1/decisions/{decision_id}/replay`."""
        record = await self._find(request)
        return _json(await self._engine().replay(record.decision_id))

    async def openapi(self, _: Request) -> Response:
        """`GET /v1/openapi.json`."""
        return _json(openapi_document())

    async def docs(self, _: Request) -> Response:
        """`GET /v1/docs`."""
        return HTMLResponse(docs_page(openapi_document()))

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`."""
        content = await asyncio.to_thread(self._metrics.render)  # some of it is read from the ledger
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _answer(self, request: DecisionRequest, records: Sequence[DecisionRecord]) -> DecisionAnswer | DecisionAnswers:
        for record in records:
            self._count(record)
        answers = [
            answer(record, asked=request, unsubscribe=self._engine().unsubscribe_path(record)) for record in records
        ]
        return answers[0] if request.placements is None else DecisionAnswers(answers)

    def _count(self, record: DecisionRecord) -> None:
        if record.request.mode == "live":
            self._metrics.decisions.labels(record.placement, record.reason).inc()

    def _count_outcome(self, result: OutcomeResult) -> None:
        self._metrics.outcomes.labels(result.status).inc()


def record_document(record: DecisionRecord) -> dict[str, Any]:
    """The record with names for every field; the ledger keeps the repeated parts as arrays."""
    document: dict[str, Any] = msgspec.to_builtins(record)
    for field in _KEPT_AS_ARRAYS:
        items = getattr(record, field)
        document[field] = [{name: getattr(item, name) for name in item.__struct_fields__} for item in items]
    return document


def _outcome_answer(result: OutcomeResult) -> OutcomeAnswer:
    problem = problem_of(result.problem) if result.problem else None
    return OutcomeAnswer(result.status, result.outcome_id, problem)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _caller(request: Request) -> Caller:
    """Who was let in; routes that are open to everyone have nobody to ask for."""
    caller: Caller = request.state.caller
    return caller


def _guarded(template: str, handler: Handler, metrics: Metrics, callers: Callers, scopes: tuple[str, ...]) -> Handler:
    """Lets in who may call, makes problem documents of errors, and counts every answer by its route's template."""
    by_body = template in EVENT_PATHS

    async def guarded(request: Request) -> Response:
        began = time.perf_counter()
        caller: Caller | None = None
        try:
            if scopes != OPEN:
                found = callers.by_headers(request.headers) if not by_body else await caller_of(request, callers)
                caller = request.state.caller = found
                caller.must(*scopes)
            response = await handler(request)
        except NextmoveError as error:
            if isinstance(error, StoreError):
                logger.warning("%s: %s", template, error.message)
            if isinstance(error, Unauthorized):
                metrics.unauthorized.labels(error.reason).inc()
            response = problem_response(caller.error_of(error) if caller else error)
        except Exception as error:
            response = problem_response(_ours(error))
        metrics.requests.labels(template, response.status_code).inc()
        metrics.seconds.labels(template).observe(time.perf_counter() - began)
        return response

    return guarded


def _no_moments() -> Moments:
    raise SetupError("this service was put together without moments")


def _ours(error: Exception) -> NextmoveError:
    """An error as callers may see it; what we did not expect is told to the log alone."""
    if isinstance(error, NextmoveError):
        return error
    logger.error("a mistake of ours", exc_info=error)
    return InternalError("this is a mistake of the service; its log has the details")


async def _nothing_here(request: Request) -> Response:
    allowed = {
        method
        for route in request.app.routes
        if isinstance(route, Route)
        and route.endpoint is not _nothing_here
        and route.matches(request.scope)[0] != Match.NONE
        for method in route.methods or ()
    }
    raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))}) if allowed else HTTPException(404)


async def _no_such_route(request: Request, error: Exception) -> Response:
    what = f"{request.method} {request.url.path[:256]}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        response = problem_response(MethodNotAllowed(f"{what} is not possible, must be {allowed}"))
        response.headers["Allow"] = allowed
        return response
    return problem_response(NotFound(f"{what} is not a route of this service; GET /v1/openapi.json lists them"))
