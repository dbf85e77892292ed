"""The BentoML service: `bentoml serve serving.service:Nextmove`."""

import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
import msgspec
from bentoml.exceptions import BentoMLException

from decisioning.errors import NextmoveError
from decisioning.request import DecisionRequest
from serving import collector
from serving.http.app import Routes, create_app
from serving.http.body import DECISION_LIMIT, parse
from serving.http.customer_routes import honoured
from serving.http.guard import Guard
from serving.http.problems import MalformedJson, problem_of
from serving.runtime import Runtime
from storage.settings import load_settings

settings = load_settings(os.environ, directory=Path.cwd())
runtime = Runtime()
routes = Routes(
    lambda: runtime.engine,
    runtime.metrics,
    hook_secrets=lambda: runtime.hook_secrets,
    moments=lambda: runtime.moments,
    privacy=lambda: runtime.privacy,
)
origins = settings.allowed_origins.split(",") if settings.allowed_origins else ()
app = create_app(routes, runtime.metrics, runtime.callers, origins=origins)


@bentoml.service(
    name="nextmove",
    workers=settings.workers,
    traffic={"timeout": 30},
    # Ours go by route template: BentoML's go by raw path, which would put ids into /metrics.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(app, path="/")
class Nextmove:
    """Next-best-action decisions over HTTP; `decide` is the same as a native BentoML call."""

    def __init__(self) -> None:
        runtime.open(settings)
        collector.settle()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def decide(self, request: dict[str, Any], ctx: bentoml.Context) -> dict[str, Any]:
        """The same as `POST /v1/decisions`, for BentoML's own clients."""
        try:
            asked = honoured(parse(_json(request), DecisionRequest, limit=DECISION_LIMIT), ctx.request.headers)
            answer = await routes.answer(asked, ctx.request.state.caller)  # whom the guard let in
        except NextmoveError as error:
            status = HTTPStatus(problem_of(error).status)
            raise BentoMLException(f"{error.code}: {error.message}", error_code=status) from error
        return msgspec.to_builtins(answer)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Called in every worker, on the event loop that answers."""
        runtime.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        """Called in every worker."""
        await runtime.stop()
        runtime.close()
        collector.unsettle()


def _json(request: dict[str, Any]) -> bytes:
    """The request as the other route would have met it: BentoML's decoder lets NaN and infinity through."""
    try:
        return json.dumps(request, allow_nan=False).encode()
    except ValueError as error:
        raise MalformedJson(f"the request is not JSON: {error}", where="request") from error


Nextmove.add_asgi_middleware(  # type: ignore[attr-defined]
    Guard, readiness=runtime.readiness, callers=runtime.callers, metrics=runtime.metrics
)
