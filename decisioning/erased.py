"""What is left of requests and events that name an erased id: nothing that says whose they are."""

from collections.abc import Collection, Mapping

import msgspec

from decisioning.case import Case
from decisioning.content_types import Value
from decisioning.events import EventRecord
from decisioning.identity import is_visitor, visitor
from decisioning.profile import Facts, HotProfile
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest


def nobodys(request: DecisionRequest, *, decision_id: str, about: Collection[str]) -> DecisionRequest:
    """A request for one placement as a visitor makes it who is never seen again.

    `decision_id` is a new one: two decisions have nothing in common. The caller's own stays, unless the
    id stands in it. Of the context, what is named in `about` is left out, and what is the id itself.
    """
    named = [name for name in (request.customer_id, request.anonymous_id) if name is not None]
    context = {
        key: value
        for key, value in request.context.items()
        if key not in about and not (isinstance(value, str) and value in named)
    }
    own = request.decision_id
    if own is not None and any(name in own for name in named):
        own = None
    return msgspec.structs.replace(
        request, customer_id=None, anonymous_id=decision_id, decision_id=own, context=context
    )


def facts_of_nobody(facts: Facts, case: Case) -> Facts:
    """What may be known for a decision about somebody who was erased: the request, budgets and pauses.

    Nothing is sent: to a placement that is, the channel is closed.
    """
    supplied = [name for name in facts.overridden if name in case.request.context]
    hot = facts.hot or HotProfile()
    return Facts(
        features={name: facts.features[name] if name in supplied else None for name in facts.features},
        overridden=tuple(supplied),
        hot=HotProfile(
            budgets=hot.budgets,
            paused=hot.paused,
            suppressed=(case.placement.channel,) if case.placement.is_push else (),
            erased=True,
        ),
        paused=facts.paused,
        known=False,
        personal=False,
    )


def units_of(event: EventRecord) -> set[str]:
    """Every id that an event names, as hot state knows it."""
    named = {event.unit}
    if event.anonymous_id is not None:
        named.add(visitor(event.anonymous_id))
    if event.previous_id is not None:
        named |= {event.previous_id, visitor(event.previous_id)}
    return named


def without_erased(event: EventRecord, erased: Collection[str]) -> EventRecord | None:
    """What of an event may be kept when these of its ids are erased; None where nothing may be.

    A customer's event from a device whose visitor is erased is still the customer's.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> event = EventRecord(event_id="shop/1", source="shop", type="track", name="purchase", customer_id="bob",
    ...                     anonymous_id="tablet", occurred_at=at, received_at=at)
    >>> without_erased(event, {"bob"}), without_erased(event, {"anonymous:tablet"}).anonymous_id
    (None, None)
    """
    if event.unit in erased:
        return None
    if event.previous_id is not None and any(
        unit in erased for unit in (event.previous_id, visitor(event.previous_id))
    ):
        return None
    if event.anonymous_id is not None and visitor(event.anonymous_id) in erased:
        return msgspec.structs.replace(event, anonymous_id=None)
    return event


def without_mentions(record: DecisionRecord, erased: Collection[str], *, naming: Collection[str]) -> DecisionRecord:
    """Somebody else's decision without these ids, where features (`naming`) or contacts name them.

    Replayed, it may differ: a rule may have asked who referred the customer.
    """

    def kept(features: Mapping[str, Value]) -> dict[str, Value]:
        return {n: None if n in naming and value in erased else value for n, value in features.items()}

    contacts = tuple(
        msgspec.structs.replace(contact, customer_id=None) if contact.customer_id in erased else contact
        for contact in record.contacts
    )
    slots = tuple(
        msgspec.structs.replace(slot, repeats_of=None) if slot.repeats_of in erased else slot for slot in record.slots
    )
    context = kept(record.request.context)
    return msgspec.structs.replace(
        record,
        features=kept(record.features),
        account=kept(record.account),
        contacts=contacts,
        slots=slots,
        request=msgspec.structs.replace(record.request, context=context),
    )


def visitor_ids(units: Collection[str]) -> list[str]:
    """The anonymous ids among these, as events name them."""
    return [unit.partition(":")[2] for unit in units if is_visitor(unit)]
