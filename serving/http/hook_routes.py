"""`POST /v1/hooks/{source}`: what e-mail and other providers report, signed by them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.errors import RequestError, SetupError
from decisioning.event_content import Hook
from decisioning.request import OutcomeReport
from serving.engine import Engine
from serving.http.body import check_media_type, content_of, parse
from serving.http.hook_formats import report_of
from serving.http.metrics import Metrics
from serving.http.problems import BodyTooLarge, NoSuchHook, Problem, problem_of
from serving.http.signatures import check_signature

HOOK_LIMIT = 1024 * 1024  # SendGrid sends up to 768 KiB
ITEMS_LIMIT = 5_000
TOGETHER = 100  # items between two looks at other calls
Secrets = Callable[[], Mapping[str, str]]


class HookResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one item.

    `accepted`, `duplicate` or `rejected` as outcomes are; `ignored` for an event of no meaning here,
    `unjoined` for one that names no decision.
    """

    status: str
    outcome_id: str | None = None
    problem: Problem | None = None


class HookAnswer(msgspec.Struct, frozen=True):
    """A result for each item, in their order, and how many name no decision."""

    results: list[HookResult]
    unjoined: int


class HookRoutes:
    """Takes what hooks send. No key lets anyone in here, and none is needed: the signature says who calls."""

    def __init__(self, engine: Callable[[], Engine], metrics: Metrics, secrets: Secrets) -> None:
        self._engine = engine
        self._metrics = metrics
        self._secrets = secrets

    async def take(self, request: Request) -> Response:
        """`POST /v1/hooks/{source}`: 200 once all is kept; any other status makes providers send all of it again."""
        now = datetime.now(UTC)
        hook = self._hook(request.path_params["source"])
        items = await self._items(request, hook, now)
        results: list[HookResult | None] = [None] * len(items)
        reports: list[tuple[int, OutcomeReport]] = []
        for place, item in enumerate(items):
            try:
                report = report_of(item, hook, now=now, where=f"[{place}]")
            except RequestError as error:
                results[place] = HookResult("rejected", None, problem_of(error))
                continue
            if isinstance(report, OutcomeReport):
                reports.append((place, report))
            else:
                results[place] = HookResult(report)
        for start in range(0, len(reports), TOGETHER):
            chunk = reports[start : start + TOGETHER]
            kept = await self._engine().record_outcomes([report for _, report in chunk], now=now, source=hook.id)
            for (place, _), each in zip(chunk, kept, strict=True):
                problem = problem_of(each.problem) if each.problem else None
                results[place] = HookResult(each.status, each.outcome_id, problem)
                self._metrics.outcomes.labels(each.status).inc()
        told = [result for result in results if result is not None]
        for result in told:
            self._metrics.hook_items.labels(hook.id, result.status).inc()
        answer = HookAnswer(told, unjoined=sum(result.status == "unjoined" for result in told))
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _hook(self, source: str) -> Hook:
        hooks = self._engine().release.blueprint.content.hooks
        hook = next((each for each in hooks if each.id == source), None)
        if hook is None:
            raise NoSuchHook(f"the catalogue has no hook '{source[:64]}'; its `hooks` name them", where="source")
        return hook

    async def _items(self, request: Request, hook: Hook, now: datetime) -> list[Any]:
        """The items of a body that the provider sent.

        Raises:
            SetupError: The hook has no secret, or one that cannot be its. Unauthorized: It is somebody else's.
            BodyTooLarge, WrongMediaType, MalformedJson, RequestError: It cannot be read.
        """
        secret = self._secrets().get(hook.id)
        if secret is None:
            raise SetupError(
                f"the hook '{hook.id}' has no secret, so it takes no calls; put one into the file that the setting"
                " hook_secrets names, and start the service again",
                where="hook_secrets",
            )
        content = bytes(await content_of(request, HOOK_LIMIT))
        if len(content) > HOOK_LIMIT:
            raise BodyTooLarge(f"the body has more than {HOOK_LIMIT:,} bytes, send less in one call")
        check_signature(hook, secret, request.headers, content, now=now)
        check_media_type(request)
        body: Any = parse(content, object, limit=HOOK_LIMIT)
        items = body if isinstance(body, list) else [body]
        if len(items) > ITEMS_LIMIT:
            raise BodyTooLarge(f"the list has {len(items):,} events, must have at most {ITEMS_LIMIT:,}")
        return items
