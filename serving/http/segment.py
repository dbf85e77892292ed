"""The wire format of the Segment HTTP tracking API: bodies to events, item by item.

One bad item must not cost the others: each is decoded and judged on its own. Answers are 200 with a
result for each item, because the clients that exist take everything else for a reason to send
the whole batch again.
"""

import hashlib
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from ulid import ULID

from decisioning.errors import RequestError
from decisioning.events import EventRecord, EventType, event_id_of
from decisioning.request import sane
from decisioning.reward import CLOCK_TOLERANCE
from serving.events import Reported
from serving.http.body import invalid
from serving.http.problems import MalformedJson

ITEM_LIMIT = 32 * 1024
BATCH_LIMIT = 500 * 1024
ITEMS_LIMIT = 2_500
# What of an event's context anything uses. Addresses and the like are left out: they are personal.
_KEPT_CONTEXT = ("campaign", "channel", "locale", "page", "timezone")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ID_LENGTH = 256


class EventTooLarge(RequestError):
    """A call or an item above the limits; 400, as the clients of this API expect."""

    code = "body_too_large"


class NoSubject(RequestError):
    """An event of nobody."""

    code = "no_user_anon_id"


class TooManyEvents(RequestError):
    """An item behind the last one that a batch may have."""

    code = "too_many_events"


class _Item(msgspec.Struct, kw_only=True, rename="camel"):
    """What any of the calls may have; fields that are not named here are not used."""

    type: EventType | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    message_id: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    event: str | None = None
    name: str | None = None
    group_id: str | int | None = None
    previous_id: str | int | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class _Batch(msgspec.Struct, kw_only=True, rename="camel"):
    batch: list[msgspec.Raw]
    context: dict[str, Any] | None = None
    sent_at: str | None = None
    write_key: str | None = None


class _WriteKey(msgspec.Struct, kw_only=True, rename="camel"):
    write_key: str | None = None


class Sender(NamedTuple):
    """Who tells of events, and the only market that they may speak of; None for all."""

    source: str
    market: str | None = None


class Call(NamedTuple):
    """A call's items: each the event that it reports, or what is wrong with it.

    `message_ids` are the items' own, where they have one.
    """

    items: list[Reported | RequestError]
    message_ids: list[str | None]


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_write_key = msgspec.json.Decoder(_WriteKey).decode


def inflated(content: bytes | bytearray, *, limit: int) -> bytes:
    """A body that came compressed by gzip, as far as the limit.

    Raises:
        MalformedJson: It is not gzip. EventTooLarge: There is more of it.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(bytes(content), limit + 1)
    except zlib.error as error:
        raise MalformedJson(f"the body is not gzip, as content-encoding says: {error}") from error
    if len(plain) > limit:
        raise too_large(limit)
    return plain


def too_large(limit: int) -> EventTooLarge:
    """What a call above its limit is told."""
    return EventTooLarge(f"the body has more than {limit:,} bytes, send less in one call")


def write_key_of(content: bytes) -> str | None:
    """The key that a body carries, since these clients may send it there; None where it has none."""
    try:
        return _decode_write_key(content).write_key
    except msgspec.MsgspecError:
        return None


def single_call(content: bytes, kind: EventType, sender: Sender, *, now: datetime) -> Call:
    """What a call of one event reports; the path says its type.

    Raises:
        EventTooLarge, MalformedJson: Nothing of it can be used.
    """
    if len(content) > ITEM_LIMIT:
        raise too_large(ITEM_LIMIT)
    return _call([msgspec.Raw(content)], kind, None, None, sender, now=now)


def batch_call(content: bytes, sender: Sender, *, now: datetime) -> Call:
    """What a batch reports.

    Raises:
        EventTooLarge, MalformedJson, RequestError: Nothing of it can be used.
    """
    if len(content) > BATCH_LIMIT:
        raise too_large(BATCH_LIMIT)
    try:
        batch = _decode_batch(content)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"the body is not JSON: {error}") from error
    return _call(batch.batch, None, batch.context, batch.sent_at, sender, now=now)


def _call(
    raw: list[msgspec.Raw],
    kind: EventType | None,
    context: Mapping[str, Any] | None,
    sent_at: str | None,
    sender: Sender,
    *,
    now: datetime,
) -> Call:
    items: list[Reported | RequestError] = []
    message_ids: list[str | None] = []
    for place, one in enumerate(raw):
        where = "" if kind is not None else f"batch[{place}]"
        message_id = None
        try:
            if place >= ITEMS_LIMIT:
                raise TooManyEvents(f"{where}: a batch may have {ITEMS_LIMIT:,} events; send this one in the next")
            content = bytes(one)
            if len(content) > ITEM_LIMIT:
                raise EventTooLarge(f"{where}: the event has more than {ITEM_LIMIT:,} bytes")
            item = _decoded(content, where, only=kind is not None)
            message_id = item.message_id
            event = _event(item, kind or item.type, context, sent_at, sender, now=now, where=where)
            items.append(Reported(event, hashlib.blake2b(content, digest_size=16).hexdigest()))
        except RequestError as error:
            items.append(error)
        message_ids.append(message_id)
    return Call(items, message_ids)


def _decoded(content: bytes, where: str, *, only: bool) -> _Item:
    try:
        return _decode_item(content)
    except msgspec.ValidationError as error:
        raise invalid(error, prefix=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if only:
            raise MalformedJson(f"the body is not JSON: {error}") from error
        raise RequestError(f"{where}: is not JSON: {error}", where=where) from error


def _event(
    item: _Item,
    kind: EventType | None,
    shared: Mapping[str, Any] | None,
    sent_at: str | None,
    sender: Sender,
    *,
    now: datetime,
    where: str,
) -> EventRecord:
    """One item as the ledger keeps it.

    Raises:
        RequestError: It is of no type, of nobody, of no time that can be, or lacks what its type needs.
    """
    if kind is None:
        raise RequestError(
            f"{_at(where, 'type')} is missing, each event of a batch needs one", where=_at(where, "type")
        )
    customer_id, anonymous_id = (_id(item, name, where) for name in ("user_id", "anonymous_id"))
    if customer_id is None and anonymous_id is None:
        raise NoSubject(
            f"{_at(where, 'userId')} and anonymousId are both missing, one must be given", where=where or None
        )
    required = {"track": "event", "group": "group_id", "alias": "previous_id"}.get(kind)
    if required is not None and getattr(item, required) in (None, ""):
        name = _camel(required)
        raise RequestError(f"{_at(where, name)} is missing, a {kind} needs it", where=_at(where, name))
    if kind == "track" and not any(sign.isalnum() for sign in item.event or ""):
        raise RequestError(f"{_at(where, 'event')} is '{item.event}', must have a letter", where=_at(where, "event"))
    message_id = item.message_id or str(ULID.from_datetime(now))
    if len(message_id) > ID_LENGTH or _CONTROL.search(message_id):
        raise RequestError(
            f"{_at(where, 'messageId')} must have at most {ID_LENGTH} signs, none of them for control",
            where=_at(where, "messageId"),
        )
    said = (item.traits if kind in ("identify", "group", "alias") else item.properties) or {}
    if kind in ("page", "screen") and item.name:
        said = {"name": item.name, **said}
    context = {**(shared or {}), **(item.context or {})}
    return EventRecord(
        event_id=event_id_of(sender.source, message_id),
        source=sender.source,
        type=kind,
        name=(item.event or "")[:ID_LENGTH] if kind == "track" else kind,
        customer_id=customer_id,
        anonymous_id=anonymous_id,
        properties=said,
        context={name: context[name] for name in _KEPT_CONTEXT if name in context},
        group_id=_id(item, "group_id", where),
        previous_id=_id(item, "previous_id", where),
        market=sender.market,
        occurred_at=_occurred_at(item, item.sent_at or sent_at, now=now, where=where),
        received_at=now,
    )


def _id(item: _Item, field: str, where: str) -> str | None:
    """An id as text: some clients send numbers."""
    value = getattr(item, field)
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > ID_LENGTH or _CONTROL.search(text):
        name = _at(where, _camel(field))
        raise RequestError(f"{name} must have at most {ID_LENGTH} signs, none of them for control", where=name)
    return text


def _occurred_at(item: _Item, sent_at: str | None, *, now: datetime, where: str) -> datetime:
    """When it happened: by the client's clock, corrected by what that clock said when it was sent."""
    said = item.original_timestamp or item.timestamp
    if said is None:
        return now
    path = _at(where, "timestamp")
    at = _time(said, path)
    if sent_at is not None:
        at += now - _time(sent_at, "sentAt")
    at = sane(at, where=path)
    if at - now > CLOCK_TOLERANCE:
        raise RequestError(
            f"{path} is {at.isoformat()}, must not lie in the future (now {now.isoformat()})", where=path
        )
    return min(at, now)


def _time(said: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(said)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RequestError(
            f"{where} is '{said[:64]}', must be a time like 2026-11-21T18:00:00Z", where=where
        ) from error


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
