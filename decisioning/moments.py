"""Moments: which events ask for a decision, when it is due, and what still ends it by then.

An event is matched once, when it is told, by the catalogue of its market. What a moment says beyond
`event`, `when` and `delay` holds as the catalogue says it when the decision is due.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from decisioning.catalog import Catalog, Release
from decisioning.content_types import NO_ACTION
from decisioning.event_content import Moment
from decisioning.events import EventRecord
from decisioning.profile import Event
from decisioning.record import DecisionRecord
from decisioning.request import Context
from decisioning.rules import RuleFailure

# As many as a request's context may have.
MOST_CONTEXT = 100
SETTLING = timedelta(minutes=1)


class Trigger(msgspec.Struct, frozen=True):
    """The event that began a moment, as far as the decision and the channel need it."""

    name: str
    occurred_at: datetime
    properties: Mapping[str, Any]


class AwaitedMoment(msgspec.Struct, frozen=True, kw_only=True):
    """A moment that has begun and waits until it is due.

    Attributes:
        moment_id: Of the moment and the event: matched twice, it is one.
        market: Whose catalogue matched; None for the blueprint.
        channel: Of the moment's placement.
        ready_at: When it is decided by whoever finds it. One that is due already when its event is told waits
            for what is told with the event, or as late.
    """

    moment_id: str
    moment: str
    event_id: str
    customer_id: str | None
    anonymous_id: str | None
    market: str | None
    channel: str
    due_at: datetime
    ready_at: datetime
    trigger: Trigger

    @property
    def is_due_at_once(self) -> bool:
        """Whether its moment has no delay."""
        return self.due_at == self.trigger.occurred_at


def awaited(events: Iterable[EventRecord], release: Release) -> list[AwaitedMoment]:
    """What these events begin; nothing that nobody would decide any more.

    No event is looked at while no market declares a moment.
    """
    if not any(catalog.moments for catalog in release.markets.values()):
        return []
    first = {event.event_id: event for event in reversed(list(events))}  # of two with one id, the one that stands
    return [begun for event in first.values() for begun in _begun(event, release)]


def _begun(event: EventRecord, release: Release) -> Iterable[AwaitedMoment]:
    catalog = catalog_of(event.market, release)
    for moment, when in catalog.moments_on.get(event.name, ()):
        due_at = event.occurred_at + moment.delay
        if is_late(moment, due_at, now=event.received_at):
            continue
        scope = catalog.scope(now=event.occurred_at, customer={}, account={}, context=event.properties)
        try:
            if not when.holds(scope):
                continue
        except RuleFailure:
            continue
        yield AwaitedMoment(
            moment_id=moment_id_of(release.domain, moment.id, event.event_id),
            moment=moment.id,
            event_id=event.event_id,
            customer_id=event.customer_id,
            anonymous_id=event.anonymous_id,
            market=event.market if event.market in release.markets else None,
            channel=catalog.placements[moment.placement].channel,
            due_at=due_at,
            ready_at=due_at if due_at > event.received_at else event.received_at + SETTLING,
            trigger=Trigger(event.name, event.occurred_at, event.properties),
        )


def catalog_of(market: str | None, release: Release) -> Catalog:
    """The catalogue that an event of this market is matched by: the blueprint, where there is no such market."""
    return release.markets.get(market, release.blueprint) if market is not None else release.blueprint


def moment_id_of(domain: str, moment: str, event_id: str) -> str:
    """An id that says nothing of whom it is about, and may stand in paths and headers.

    >>> moment_id_of("shop", "cart_abandoned", "web/m-1")
    '384544ed65690a34c17f51b7803f6fe9'
    """
    named = msgspec.json.encode((domain, moment, event_id))
    return hashlib.blake2b(named, digest_size=16).hexdigest()


def decision_id_of(moment_id: str) -> str:
    """The id of the decision that a moment asks for: asked for twice, it is one."""
    return f"moment-{moment_id}"


def is_late(moment: Moment, due_at: datetime, *, now: datetime) -> bool:
    """Whether it was due so long ago that nobody wants it any more; exactly `expires` ago is too long."""
    return now - due_at >= moment.expires


def ended_by(moment: Moment, events: Sequence[Event], *, since: datetime) -> str | None:
    """The event of `unless` that happened after the one that began the moment; None where none did.

    Of two at the same instant nobody knows the order: another event ends the moment, one of the same
    name is the one that began it.

    >>> cart = Moment(id="m", event="cart_added", unless=("purchase", "cart_added"), placement="p", deliver="pull")
    >>> noon = datetime(2026, 1, 1, 12)
    >>> ended_by(cart, [Event("cart_added", noon)], since=noon)
    >>> ended_by(cart, [Event("purchase", noon)], since=noon)
    'purchase'
    """
    last = {event.name: event.at for event in events}
    for name in moment.unless:
        at = last.get(name)
        if at is not None and (at > since or (at == since and name != moment.event)):
            return name
    return None


def context_of(properties: Mapping[str, Any], *, features: Collection[str]) -> Context:
    """What an event says, as a decision's context: single values, none of which stands for a stored feature.

    An event tells what happened, at its own time; what the customer is like, the feature store knows better.

    >>> context_of({"value": 20.0, "products": [], "age": 7.0}, features={"age"})
    {'value': 20.0}
    """
    kept: dict[str, Any] = {}
    for name, value in properties.items():
        if name in features or len(kept) == MOST_CONTEXT:
            continue
        try:
            kept |= msgspec.convert({name: value}, Context)
        except (msgspec.ValidationError, OverflowError):
            continue
    return kept


def belongs_to(record: DecisionRecord, moment: Moment, members: Collection[str]) -> bool:
    """Whether a decision that stands under the id was asked for by the moment, and not by somebody who guessed it."""
    return record.placement == moment.placement and record.request.unit in members


def why_nothing(record: DecisionRecord) -> str | None:
    """Why a decision gives nothing to deliver; None where there is something.

    In the words of `reasons` where one reason kept every action from being a candidate, else as the decision says.
    """
    if any(slot.action_id != NO_ACTION for slot in record.slots):
        return None
    reasons = {drop.reason for drop in record.dropped if drop.step != "candidates"}
    others = [candidate for candidate in record.candidates if candidate.action_id != NO_ACTION]
    if len(reasons) == 1 and not others:
        return reasons.pop()
    return "NO_ACTION" if record.slots else record.reason
