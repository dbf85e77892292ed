"""What providers call things: from an item of a webhook to the outcome that it reports.

An item names its decision by what was given to the provider when the message was sent (SendGrid: custom
arguments; Brevo: `X-Mailin-custom` with a JSON object; Segment: properties). Nobody is looked up by
an e-mail address: it is no id of ours.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from decisioning.content_types import HookFormat
from decisioning.errors import RequestError
from decisioning.event_content import Hook, HookEvent
from decisioning.outcome_types import OutcomeDetail, OutcomeType
from decisioning.request import OutcomeReport
from decisioning.reward import CLOCK_TOLERANCE
from serving.http.body import convert

Item = Mapping[str, Any]
ID_LENGTH = 190  # with the hook's own id before it, an outcome's id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _as_said(_item: Item, event: HookEvent) -> HookEvent:
    return event


class Format(NamedTuple):
    """Where a provider's items have what, and what it calls outcomes; `refined` knows what a name does not say."""

    events: Mapping[str, HookEvent]
    event: str = "event"
    event_id: str | None = "id"
    occurred_at: str = "timestamp"
    decision_id: str = "decision_id"
    action_id: str = "action_id"
    refined: Callable[[Item, HookEvent], HookEvent] = _as_said


def _is(kind: OutcomeType, detail: OutcomeDetail | None = None) -> HookEvent:
    return HookEvent(type=kind, detail=detail)


def _sendgrid(item: Item, event: HookEvent) -> HookEvent:
    if event.type == "open" and item.get("sg_machine_open") is True:
        return _is("open", "machine")
    if event == _is("bounce", "hard") and item.get("type") in ("blocked", "expired"):
        return _is("bounce", "soft")
    return event


FORMATS: Mapping[HookFormat, Format] = {
    # https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
    "sendgrid": Format(
        {
            "processed": _is("sent"),
            "dropped": _is("not_sent"),
            "delivered": _is("delivered"),
            "bounce": _is("bounce", "hard"),
            "open": _is("open"),
            "click": _is("click"),
            "spamreport": _is("complaint"),
            "unsubscribe": _is("unsubscribe"),
            "group_unsubscribe": _is("unsubscribe"),
        },
        event_id="sg_event_id",
        refined=_sendgrid,
    ),
    # https://developers.brevo.com/docs/transactional-webhooks. Its `id` is the webhook's.
    "brevo": Format(
        {
            "request": _is("sent"),
            "blocked": _is("not_sent"),
            "error": _is("not_sent"),
            "delivered": _is("delivered"),
            "soft_bounce": _is("bounce", "soft"),
            "hard_bounce": _is("bounce", "hard"),
            "invalid_email": _is("bounce", "hard"),
            "opened": _is("open"),
            "unique_opened": _is("open"),
            "proxy_open": _is("open", "machine"),
            "unique_proxy_open": _is("open", "machine"),
            "click": _is("click"),
            "spam": _is("complaint"),
            "unsubscribed": _is("unsubscribe"),
            "unsubscribe": _is("unsubscribe"),
        },
        event_id=None,
        occurred_at="ts_event",
        decision_id="X-Mailin-custom.decision_id",
        action_id="X-Mailin-custom.action_id",
    ),
    # https://www.twilio.com/docs/segment/connections/spec/email. It tells no hard bounce from a soft one.
    "segment": Format(
        {
            "Email Sent": _is("sent"),
            "Email Delivered": _is("delivered"),
            "Email Bounced": _is("bounce"),
            "Email Opened": _is("open"),
            "Email Link Clicked": _is("click"),
            "Email Marked as Spam": _is("complaint"),
            "Unsubscribed": _is("unsubscribe"),
        },
        event_id="messageId",
        decision_id="properties.decision_id",
        action_id="properties.action_id",
    ),
    "custom": Format({}),
}


def report_of(item: Any, hook: Hook, *, now: datetime, where: str) -> OutcomeReport | Literal["ignored", "unjoined"]:
    """The outcome that an item reports; `ignored` for an event of no meaning, `unjoined` for one of no decision.

    Raises:
        RequestError: It cannot be understood. The message quotes nothing but ids, names and times.
    """
    if not isinstance(item, Mapping):
        raise RequestError(f"{where} is no object, must be one event", where=where)
    format_ = FORMATS[hook.format]
    name = _at(item, hook.event or format_.event)
    meant = None
    if isinstance(name, str):
        known = format_.events.get(name)
        meant = hook.events.get(name) or (known and format_.refined(item, known))
    if meant is None:
        return "ignored"
    decision_id = _at(item, hook.decision_id or format_.decision_id)
    if decision_id in (None, ""):
        return "unjoined"
    said = {
        "decision_id": decision_id,
        "type": meant.type,
        "detail": meant.detail,
        "action_id": _at(item, hook.action_id or format_.action_id) or None,
        "outcome_id": f"{hook.id}/{_event_id(item, hook.event_id or format_.event_id)}",
    }
    report = convert(said, OutcomeReport, where=where)
    place = hook.occurred_at or format_.occurred_at
    at = _time(_at(item, place), f"{where}.{place}")
    if at is not None and at - now > CLOCK_TOLERANCE:
        at = None  # a wrong time zone is no reason to lose an unsubscription
    return msgspec.structs.replace(report, occurred_at=at)


def _at(item: Item, path: str) -> Any:
    """What stands there; text on the way is read as JSON."""
    found: Any = item
    for step in path.split("."):
        if isinstance(found, str):
            try:
                found = msgspec.json.decode(found)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                return None
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _event_id(item: Item, path: str | None) -> str:
    """The provider's, or one made of the item: what is sent again is the same."""
    said = None if path is None else _at(item, path)
    if isinstance(said, str) and 0 < len(said) <= ID_LENGTH and said.isprintable():
        return said
    return hashlib.blake2b(msgspec.json.encode(item, order="deterministic"), digest_size=16).hexdigest()


def _time(said: Any, where: str) -> datetime | None:
    if said is None:
        return None
    try:
        if isinstance(said, int | float):
            return _EPOCH + timedelta(seconds=said)
        at = datetime.fromisoformat(said)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        shown = said if isinstance(said, int | float) else str(said)[:64]
        raise RequestError(
            f"{where} is '{shown}', must be seconds since 1970 or a time like 2026-11-21T18:00:00Z", where=where
        ) from error
