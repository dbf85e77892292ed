"""What customers did elsewhere: events in the one vocabulary that rules, features and moments speak."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

# Of the Segment specification, which every customer data platform and tag manager can send.
EventType = Literal["track", "identify", "page", "screen", "group", "alias"]
EVENT_KINDS: tuple[str, ...] = get_args(EventType)


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event, as the ledger keeps it.

    Attributes:
        event_id: `source/message id`: the same one told again is one event.
        source: Who told it: the name of the key that it came with.
        name: Of what is tracked, in our vocabulary (`purchase`); else the `type`.
        customer_id, anonymous_id: Who did it, as the source knows them; at least one is given.
        properties: Of a track, page or screen what it says; of an identify or group the traits.
        context: Where it happened, as far as anything uses it.
        group_id: Of a group, the account; `previous_id`: of an alias, what the customer was called.
        occurred_at: By the source's clock, corrected by when it sent it.
    """

    event_id: str
    source: str
    type: EventType
    name: str
    customer_id: str | None = None
    anonymous_id: str | None = None
    properties: Mapping[str, Any] = {}
    context: Mapping[str, Any] = {}
    group_id: str | None = None
    previous_id: str | None = None
    market: str | None = None
    occurred_at: datetime
    received_at: datetime

    @property
    def unit(self) -> str:
        """Whom hot state knows this customer or visitor as; see `DecisionRequest.unit`."""
        return self.customer_id if self.customer_id is not None else f"anonymous:{self.anonymous_id}"
