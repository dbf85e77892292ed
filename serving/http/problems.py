"""Problem documents (RFC 9457): what was wrong, what it must be, where, with a stable code."""

from typing import Any

import msgspec
from starlette.responses import Response

from decisioning.answer import answer
from decisioning.errors import (
    BundleError,
    CatalogError,
    DecisionConflict,
    NextmoveError,
    OutcomeConflict,
    RequestError,
    SetupError,
    StillPaused,
    StoreError,
    UnknownAction,
    UnknownDecision,
    UnknownExperiment,
    UnknownMoment,
    UnknownPlacement,
)
from decisioning.record import DecisionRecord
from serving.unsubscribe_links import UnknownLink

MEDIA_TYPE = "application/problem+json"


class MalformedJson(RequestError):
    """A body that is not JSON."""

    code = "malformed_json"


class BodyTooLarge(RequestError):
    """A body above the route's limit."""

    code = "body_too_large"


class WrongMediaType(RequestError):
    """A body that is not declared as JSON."""

    code = "wrong_media_type"


class NotFound(RequestError):
    """A path or method that this service does not have."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """A method that this path does not have."""

    code = "method_not_allowed"


class NoSuchAction(RequestError):
    """A path that names an action which the catalogue does not have."""

    code = "unknown_action"


class NoSuchCustomer(RequestError):
    """A path that names a customer of whom nothing is known."""

    code = "unknown_customer"


class NoSuchRequest(RequestError):
    """A path that names a request for erasure which nobody made."""

    code = "unknown_request"


class NoSuchHook(RequestError):
    """A path that names a hook which the catalogue does not have."""

    code = "unknown_hook"


class Unauthorized(RequestError):
    """A call without a key or token that counts; `reason` is for the metric and says nothing of any key."""

    code = "unauthorized"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(RequestError):
    """A call that this caller may not make."""

    code = "forbidden"


class LoopbackOnly(RequestError):
    """A caller from another machine, while no keys are configured."""

    code = "loopback_only"


class InternalError(NextmoveError):
    """A mistake of ours; the log has the rest."""

    code = "internal_error"


# The one place where errors become HTTP statuses; the nearest class in the tree counts.
STATUSES: dict[type[NextmoveError], int] = {
    RequestError: 400,
    UnknownDecision: 404,
    UnknownMoment: 404,
    DecisionConflict: 409,
    OutcomeConflict: 409,
    StillPaused: 409,
    UnknownPlacement: 422,
    UnknownAction: 422,
    UnknownExperiment: 422,
    StoreError: 503,
    BundleError: 503,
    CatalogError: 503,
    SetupError: 503,
    NextmoveError: 500,
    BodyTooLarge: 413,
    WrongMediaType: 415,
    NotFound: 404,
    NoSuchAction: 404,
    UnknownLink: 404,
    NoSuchHook: 404,
    NoSuchCustomer: 404,
    NoSuchRequest: 404,
    MethodNotAllowed: 405,
    LoopbackOnly: 403,
    Forbidden: 403,
    Unauthorized: 401,
}
# Of the schemes that are taken, the one for which browsers ask nobody for a password.
_HEADERS = {401: {"WWW-Authenticate": 'Bearer realm="nextmove"'}, 503: {"Retry-After": "1"}}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The document itself; `where` is the path in the body, `decision` the one that stands under the id."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    where: str | msgspec.UnsetType = msgspec.UNSET
    decision: Any = msgspec.UNSET


def status_of(kind: type[NextmoveError]) -> int:
    """The HTTP status for errors of this class."""
    return next(STATUSES[each] for each in kind.__mro__ if each in STATUSES)


def problem_codes(status: int) -> list[str]:
    """Every code that comes with this status."""
    kinds = [NextmoveError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return sorted({kind.code for kind in kinds if status_of(kind) == status})


def problem_of(error: NextmoveError) -> Problem:
    """The document for an error."""
    status = status_of(type(error))
    first = getattr(error, "first", None)
    return Problem(
        type=f"urn:nextmove:problem:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        code=error.code,
        detail=error.message,
        where=error.where or msgspec.UNSET,
        decision=answer(first) if isinstance(first, DecisionRecord) else msgspec.UNSET,
    )


def problem_response(error: NextmoveError) -> Response:
    """The HTTP response for an error."""
    problem = problem_of(error)
    content = msgspec.json.encode(problem)
    return Response(content, problem.status, headers=_HEADERS.get(problem.status), media_type=MEDIA_TYPE)
