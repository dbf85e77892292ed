"""In front of every route, BentoML's own included: who may call, and whether we are ready."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

import msgspec
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response

from decisioning.errors import RequestError
from serving.http.callers import Callers
from serving.http.metrics import Metrics
from serving.http.problems import LoopbackOnly, Unauthorized, problem_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Access = Literal["loopback", "authenticated"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
# A page that a browser loaded from elsewhere can have its own name resolve to this machine.
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROBES = frozenset({"/livez", "/healthz"})  # of BentoML, and they tell nothing


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What `/readyz` says: `problems` keep it from being ready, `warnings` do not.

    `access` is `loopback` where nobody but this machine may call, `authenticated` where callers need a key or token.
    """

    status: str
    access: Access
    model: str | None
    bundle_sha256: str | None
    catalog_version: str | None
    problems: list[str]
    warnings: list[str] = []


class Guard:
    """ASGI middleware.

    As long as callers need not say who they are the service answers this machine alone, whatever
    address it is bound to. What a proxy says of a caller (`X-Forwarded-For`) is never looked at.
    Routes of ours ask for a caller by themselves, each for its scopes; BentoML's are asked for here.
    BentoML's `/readyz` has no body, so ours is answered here.
    """

    def __init__(self, app: App, *, readiness: Callable[[], Readiness], callers: Callers, metrics: Metrics) -> None:
        self._app = app
        self._readiness = readiness
        self._callers = callers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        answer = self._answer(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered here, None for what is passed on."""
        path = scope["path"]
        try:
            if not self._callers.must_say:
                _check_loopback(scope)
            if path == "/readyz":
                state = self._readiness()
                status = 503 if state.problems else 200
                return Response(msgspec.json.encode(state), status, media_type="application/json")
            if not (_is_ours(path) or path in _PROBES):
                caller = self._callers.by_headers(Headers(scope=scope))
                caller.must("decide")
                scope.setdefault("state", {})["caller"] = caller
                if path == "/":
                    # BentoML's own page lets other companies' scripts watch whoever looks at it.
                    return RedirectResponse("/v1/docs")
        except RequestError as error:
            if isinstance(error, Unauthorized):
                self._metrics.unauthorized.labels(error.reason).inc()
            return problem_response(error)
        return None


def _is_ours(path: str) -> bool:
    return path in ("/v1", "/metrics") or path.startswith(("/v1/", "/ofrep/"))


def _check_loopback(scope: Scope) -> None:
    caller = scope.get("client")
    if (caller is not None and caller[0] not in _LOOPBACK) or _host(scope) not in _OWN_NAMES:
        raise LoopbackOnly(
            "no keys are configured, so this service answers calls from its own machine only,"
            " made to localhost or 127.0.0.1; to open it to others: nextmove keys create"
        )


def _host(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost")
    name: str = host.decode("latin-1")
    return name if name.endswith("]") else name.rpartition(":")[0] or name
