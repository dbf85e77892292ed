"""What the catalogue says of events: who sends them, features over them, moments that they begin, providers' hooks."""

import re
import unicodedata
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec

from decisioning.content_types import (
    Cel,
    Currency,
    FeatureKind,
    HeaderName,
    HookFormat,
    HookId,
    Id,
    ItemPath,
    Name,
    Person,
)
from decisioning.outcome_types import OutcomeDetail, OutcomeType


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A system that sends events, and what it calls things; `id` is the name of the key that it sends with.

    Attributes:
        owner: Whom to ask.
        market: Where its customers are, and `currency`, what its money is in, unless an event says: the
            market's own when absent. Events' money is kept in the catalogue's.
        events: What it calls an event, and what that is called here. Those of the Segment specification are known.
        properties: The same for properties, those of an order's lines included.
        products: What it calls a product (`product_id`), and what that is called here.
        id_prefix: What its customers' and visitors' ids begin with here, where they are numbers of its own
            that others use for other people. An `alias` says who of them is whom.
        ignored: Events that are not kept.
        outcomes: Types of outcomes that are not known without it. Where no source says so of a type, those
            that bring a tenth of it or more are needed.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    owner: Person = "unknown"
    market: Id | None = None
    currency: Currency | None = None
    events: dict[str, Id] = {}
    properties: dict[str, Id] = {}
    products: dict[str, Name] = {}
    id_prefix: Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    ignored: tuple[str, ...] = ()
    outcomes: tuple[OutcomeType, ...] = ()


class AtMost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """So many times within a rolling `per`, for all ids of a person together."""

    times: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    per: timedelta


class ToWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The webhook of this name in the file that the setting `webhooks` names."""

    webhook: HookId


class Moment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event that asks for a decision, whose answer goes to a channel.

    Attributes:
        owner: Whom to ask.
        event: The name of the event (`cart_added`); of what is not tracked, the type (`identify`).
        when: Only events for which this holds (CEL); what the event says is `context`. A rule that errs does not.
        delay: How long after the event it is due, 30 days at most.
        unless: Events that end it when they happen after the event and before the decision.
        at_most: How often for one person. Those that came to nothing do not count.
        placement: What is decided for.
        deliver: `pull`: the channel fetches it; or `{webhook: crm}`: it is sent there.
        expires: So long after it was due it is not decided any more, and what was decided is not
            delivered: after an outage nobody gets yesterday's. 30 days at most.
    """

    id: Id
    owner: Person = "unknown"
    event: Name
    when: Cel = "true"
    delay: timedelta = timedelta(0)
    unless: tuple[Name, ...] = ()
    at_most: AtMost | None = None
    placement: Id
    deliver: Literal["pull"] | ToWebhook
    expires: timedelta = timedelta(days=1)


class HookEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The outcome that a provider's event is."""

    type: OutcomeType
    detail: OutcomeDetail | None = None


class HookSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How calls prove whose they are; the secret stands in the file that the setting `hook_secrets` names.

    Attributes:
        header: Of a `custom` hook: where it sends the HMAC-SHA256 of the body, in hexadecimal.
        tolerance: How far the time that a `sendgrid` hook signs may lie from now.
    """

    header: HeaderName | None = None
    tolerance: timedelta = timedelta(minutes=5)


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider that reports outcomes to `/v1/hooks/{id}`. What it calls things is known, but for a `custom` one.

    Attributes:
        owner: Whom to ask.
        format: Whose signature, names and places are meant where nothing else is said.
        decision_id: Where an item has the decision's id; `properties.decision` is the `decision` in `properties`.
        action_id: Where it has the action's id; it may be missing where the decision showed one action.
        event: Where it has the event's name.
        event_id: Where it has the event's own id. Without one, an item with the same content is the same event.
        occurred_at: Where it has the time: seconds since 1970, or text like 2026-11-21T18:00:00Z.
        events: What it calls an event, and which outcome that is. What is not named is ignored.
    """

    id: HookId
    owner: Person = "unknown"
    format: HookFormat
    verify: HookSignature = HookSignature()
    decision_id: ItemPath | None = None
    action_id: ItemPath | None = None
    event: ItemPath | None = None
    event_id: ItemPath | None = None
    occurred_at: ItemPath | None = None
    events: dict[str, HookEvent] = {}


class Derived(NamedTuple):
    """One feature of an `EventFeature`: over this window, of events with this value of its `by`."""

    name: str
    kind: FeatureKind
    window: timedelta | None = None
    value: str | None = None


class EventFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something computed from what a customer did: one feature for each of its `windows` and `values`.

    Attributes:
        event: The name of the events (`purchase`); of what is not tracked, the type (`page`).
        compute: `count` counts them, `sum` adds up the property `of`, `recency` is how many hours ago
            the last one was, `last` is the newest value of the property `of`.
        of: A property of the events. Those without it count for nothing, nor do those whose value is
            no number where one is needed.
        kind: What `last` gives, `text` when absent.
        windows: Rolling, 30 days at most, in whole minutes. An event that is exactly one window old
            no longer counts.
        by: A property that tells events apart, with a feature for each of these `values` of it. An
            event that says several, in a list or in the lines of an order (`products.category`),
            counts once for each.
    """

    id: Id
    event: Name
    compute: Literal["count", "sum", "recency", "last"]
    of: Name | None = None
    kind: Literal["number", "text"] | None = None
    windows: tuple[timedelta, ...] = ()
    by: Name | None = None
    values: tuple[Name, ...] = ()

    def derived(self) -> tuple[Derived, ...]:
        """The features, by value, then by window.

        >>> week = EventFeature(id="orders", event="purchase", compute="count", windows=(timedelta(days=7),))
        >>> [feature.name for feature in week.derived()]
        ['orders_7d']
        """
        kind: FeatureKind = self.kind or "text" if self.compute == "last" else "number"
        return tuple(
            Derived("_".join(part for part in (self.id, name_of(value), _length(window)) if part), kind, window, value)
            for value in (self.values or (None,))
            for window in (self.windows or (None,))
        )


def name_of(value: str | None) -> str:
    """What a property's value is called in a feature's name.

    >>> name_of("Men's Shoes"), name_of("Gemüse")
    ('men_s_shoes', 'gemuse')
    """
    plain = unicodedata.normalize("NFKD", value or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


def _length(window: timedelta | None) -> str:
    """`7d`, `36h`, `30m`: the largest unit that there is a whole number of."""
    if window is None:
        return ""
    seconds = window // timedelta(seconds=1)
    units = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
    return next(f"{seconds // unit}{letter}" for unit, letter in units if seconds % unit == 0)
