"""In front of every route, BentoML's own included: who may call, and whether we are ready."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.responses import Response

from serving.http.problems import LoopbackOnly, problem_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
# A page that a browser loaded from elsewhere can have its own name resolve to this machine.
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What `/readyz` says: `problems` keep it from being ready, `warnings` do not."""

    status: str
    model: str | None
    bundle_sha256: str | None
    catalog_version: str | None
    problems: list[str]
    warnings: list[str] = []


class Guard:
    """ASGI middleware.

    Without keys the service answers this machine alone, whatever address it is bound to.
    BentoML's `/readyz` has no body, so ours is answered here.
    """

    def __init__(self, app: App, *, readiness: Callable[[], Readiness]) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http":
            caller = scope.get("client")
            if (caller is not None and caller[0] not in _LOOPBACK) or _host(scope) not in _OWN_NAMES:
                error = LoopbackOnly(
                    "no keys are configured, so this service answers calls from its own machine only,"
                    " made to localhost or 127.0.0.1"
                )
                await problem_response(error)(scope, receive, send)
                return
            if scope["path"] == "/readyz":
                state = self._readiness()
                status = 503 if state.problems else 200
                response = Response(msgspec.json.encode(state), status, media_type="application/json")
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost")
    name: str = host.decode("latin-1")
    return name if name.endswith("]") else name.rpartition(":")[0] or name
