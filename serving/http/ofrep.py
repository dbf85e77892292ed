"""Experiments as flags of OpenFeature's remote evaluation protocol (OFREP 0.3.0).

A flag's key is an experiment's id, its value the payload of the variant. Without a value a client takes the
default that stands in its code: so does whoever takes no part, and a variant without a payload.
https://github.com/open-feature/protocol/blob/main/service/openapi.yaml
"""

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from decisioning.errors import NextmoveError, RequestError, UnknownExperiment
from decisioning.experiment_content import Experiment
from decisioning.identity import VISITOR, is_visitor
from decisioning.record import FORCED, Assignment
from decisioning.request import AssignmentRequest, CallerId, Context
from serving.engine import Engine
from serving.http.body import DECISION_LIMIT, convert, read_json
from serving.http.customer_routes import caller_in, honoured
from serving.http.problems import BodyTooLarge, Forbidden, MalformedJson, WrongMediaType

logger = logging.getLogger(__name__)
Reason = Literal["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED"]


class EvaluationRequest(msgspec.Struct, frozen=True):
    """Whom flags are evaluated for, and what is known of the moment."""

    context: dict[str, Any] = {}


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluated flag.

    Attributes:
        reason: `SPLIT`, or `TARGETING_MATCH` for a tester; `STATIC` for who takes no part, and `DISABLED` where nobody
            does, as the experiment has not begun or is stopped.
        variant: Empty for who takes no part: OpenFeature's client for Python does not do without the field.
        value: Absent where the client's default counts.
    """

    key: str
    reason: Reason
    variant: str
    metadata: dict[str, bool | str | float]
    value: bool | str | float | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why there is no flag."""

    errorDetails: str  # noqa: N815 (the protocol's word)
    errorCode: str | None = None  # noqa: N815
    key: str | None = None


class _Named(msgspec.Struct, frozen=True):
    """What a context says beside the moment: whom it is about, and in which market."""

    targetingKey: str | None = None  # noqa: N815
    market: CallerId | None = None


class _NoTargetingKey(RequestError):
    """A context that does not say whom it is about."""


class OfrepRoutes:
    """One handler a route."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    async def one(self, request: Request) -> Response:
        """`POST /ofrep/v1/evaluate/flags/{key}`."""
        key = request.path_params["key"]
        try:
            flags = await self._flags(request, (key,))
        except UnknownExperiment:
            flags = []
        except NextmoveError as error:
            return _failed(error, key=key)
        if not flags:
            said = f"no experiment has the id '{key[:256]}', or it is a draft; GET /v1/catalog lists them"
            return _json(msgspec.json.encode(Failure(key=key, errorCode="FLAG_NOT_FOUND", errorDetails=said)), 404)
        return _json(msgspec.json.encode(flags[0]))

    async def all(self, request: Request) -> Response:
        """`POST /ofrep/v1/evaluate/flags`."""
        try:
            content = msgspec.json.encode({"flags": await self._flags(request, None)})
        except NextmoveError as error:
            return _failed(error)
        etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        known = (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))
        if etag in known:
            return Response(status_code=304, headers={"ETag": etag})
        return _json(content, headers={"ETag": etag})

    async def _flags(self, request: Request, keys: tuple[str, ...] | None) -> list[Flag]:
        """The flags with these keys, or all."""
        caller, now = caller_in(request), datetime.now(UTC)
        body = await read_json(request, EvaluationRequest, limit=DECISION_LIMIT)
        asked = honoured(_asked(body.context, keys), request.headers)
        market = caller.market_of(asked.market, where="context.market")
        asked = msgspec.structs.replace(asked, market=market)
        found = await self._engine().assign(asked, now=now, stored_first=caller.publishable)
        assigned = {each.experiment: each for each in found.assignments}
        return [
            _flag(each, assigned.get(each.id), now=now)
            for each in found.catalog.content.experiments
            if each.status != "draft" and each.id in (keys or (each.id,))
        ]


def _asked(context: dict[str, Any], keys: tuple[str, ...] | None) -> AssignmentRequest:
    """The request that a context makes; but for the targeting key, all of it is what a decision calls its context."""
    named = convert(context, _Named, where="context")
    unit = named.targetingKey
    if not unit:
        raise _NoTargetingKey("context.targetingKey is missing, must be a customer's id, or anonymous: and a visitor's")
    whom = convert(unit.removeprefix(VISITOR), CallerId, where="context.targetingKey")
    moment = {name: value for name, value in context.items() if name != "targetingKey"}
    return AssignmentRequest(
        customer_id=None if is_visitor(unit) else whom,
        anonymous_id=whom if is_visitor(unit) else None,
        context=convert(moment, Context, where="context"),
        market=named.market,
        experiments=keys,
    )


def _flag(experiment: Experiment, assignment: Assignment | None, *, now: datetime) -> Flag:
    begun = experiment.starts is None or experiment.starts <= now
    reason: Reason = "STATIC" if experiment.status == "running" and begun else "DISABLED"
    if assignment is not None:
        reason = "TARGETING_MATCH" if assignment.reason == FORCED else "SPLIT"
    return Flag(
        key=experiment.id,
        reason=reason,
        variant=assignment.variant if assignment else "",
        metadata={"version": experiment.version},
        value=value_of(assignment.payload) if assignment else msgspec.UNSET,
    )


def value_of(payload: dict[str, Any]) -> bool | str | float | dict[str, Any] | msgspec.UnsetType:
    """A payload as a flag's value: what stands under `value`, if that is all; else the whole; none of an empty one.

    >>> value_of({"value": True}), value_of({"value": 1, "tone": "bold"}), value_of({})
    (True, {'value': 1, 'tone': 'bold'}, UNSET)
    """
    value = payload.get("value")
    if payload.keys() == {"value"} and isinstance(value, bool | str | int | float | dict):
        return value
    return payload or msgspec.UNSET


def _failed(error: NextmoveError, *, key: str | None = None) -> Response:
    """The protocol's answer to an error; to those of access it has none."""
    if isinstance(error, Forbidden):
        raise error
    if not isinstance(error, RequestError):
        logger.warning("a flag could not be evaluated: %s", error.message)
        return _json(msgspec.json.encode(Failure(errorDetails=error.message)), 500)
    code = "INVALID_CONTEXT"
    if isinstance(error, _NoTargetingKey):
        code = "TARGETING_KEY_MISSING"
    elif isinstance(error, BodyTooLarge | MalformedJson | WrongMediaType):
        code = "PARSE_ERROR"
    return _json(msgspec.json.encode(Failure(key=key, errorCode=code, errorDetails=error.message)), 400)


def _json(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, headers=headers, media_type="application/json")
