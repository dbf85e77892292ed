"""Reading request bodies: bounded, JSON only, decoded straight into the wire types."""

import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from decisioning.errors import RequestError
from serving.http.problems import BodyTooLarge, MalformedJson, WrongMediaType

T = TypeVar("T")
DECISION_LIMIT = 256 * 1024
BATCH_LIMIT = 4 * 1024 * 1024
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)


async def read_json(request: Request, kind: type[T], *, limit: int) -> T:
    """The body as `kind`, at most `limit` bytes.

    Raises:
        WrongMediaType, BodyTooLarge, MalformedJson, RequestError: With the path of the mistake.
    """
    check_media_type(request)
    return parse(await content_of(request, limit), kind, limit=limit)


async def read_optional_json(request: Request, kind: type[T], *, limit: int) -> T | None:
    """The body as `kind`, None where there is no byte of it; its length need not be announced.

    Raises:
        WrongMediaType, BodyTooLarge, MalformedJson, RequestError: See `read_json`.
    """
    content = await content_of(request, limit)
    if not content:
        return None
    check_media_type(request)
    return parse(content, kind, limit=limit)


def check_media_type(request: Request) -> None:
    """See that the body says it is JSON.

    Raises:
        WrongMediaType: It says something else, or nothing.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType(
            f"content-type is '{media_type or '(none)'}', must be 'application/json'", where="content-type"
        )


async def content_of(request: Request, limit: int) -> bytearray:
    """The body as far as one chunk over the limit."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            break
    return content


def parse(content: bytes | bytearray, kind: type[T], *, limit: int) -> T:
    """These bytes as `kind`.

    Raises:
        BodyTooLarge, MalformedJson, RequestError: With the path of the mistake.
    """
    if len(content) > limit:
        raise BodyTooLarge(f"the body has more than {limit:,} bytes, send less in one call")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise MalformedJson("the body is nested too deeply") from error


def convert(value: Any, kind: type[T], *, where: str) -> T:
    """One item of a larger body as `kind`; `where` is its path."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(error, prefix=where) from error


def invalid(error: msgspec.ValidationError, *, prefix: str = "") -> RequestError:
    """The decoder's complaint as a request error, its path in `where`."""
    match = _AT.match(str(error))
    what, where = (match["what"], match["where"] or "") if match else (str(error), "")
    path = ".".join(part for part in (prefix, where) if part)
    return RequestError(f"{path}: {what}" if path else what, where=path or None)
