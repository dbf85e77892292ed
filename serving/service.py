"""The BentoML service: `bentoml serve serving.service:Nextmove`."""

import gc
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bentoml
import msgspec
from bentoml.exceptions import BentoMLException, InvalidArgument

from decisioning.answer import answer
from decisioning.errors import NextmoveError, RequestError
from decisioning.request import DecisionRequest
from serving.http.app import create_app
from serving.http.body import convert
from serving.http.guard import Guard
from serving.runtime import Runtime
from storage.settings import load_settings

settings = load_settings(os.environ, directory=Path.cwd())
runtime = Runtime()
app = create_app(lambda: runtime.engine, runtime.metrics)


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
        # Nothing that was loaded so far is garbage; a collector that walks it stalls requests.
        gc.collect()
        gc.freeze()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        """The same as `POST /v1/decisions`, for BentoML's own clients."""
        try:
            record = await runtime.engine.decide(
                convert(request, DecisionRequest, where="request"), now=datetime.now(UTC)
            )
        except RequestError as error:
            raise InvalidArgument(f"{error.code}: {error.message}") from error
        except NextmoveError as error:
            raise BentoMLException(f"{error.code}: {error.message}") from error
        return msgspec.to_builtins(answer(record))

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Called in every worker."""
        runtime.close()
        gc.unfreeze()  # libraries in C check at exit that their objects were collected


Nextmove.add_asgi_middleware(Guard, readiness=runtime.readiness)  # type: ignore[attr-defined]
