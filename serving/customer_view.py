"""One view of a customer: who they are, what is known, allowed, done and decided."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from decisioning.catalog import Release
from decisioning.content_types import Value
from decisioning.events import EventRecord
from decisioning.journey import stages_of
from decisioning.preferences import Preferences
from decisioning.profile import ConsentChange, Contact, Purchase, Subject
from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.rules import RuleScope
from serving.ports import Features, HotState
from storage.privacy.newest import Newest

Sees = Callable[[DecisionRecord], bool]


class DecidedView(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and what came of it."""

    decision_id: str
    decided_at: datetime
    market: str
    placement: str
    channel: str
    reason: str
    actions: tuple[str, ...]
    outcomes: tuple[OutcomeRecord, ...]


class CustomerView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a customer now.

    Attributes:
        ids: Every id of the person.
        features: Those stored under the id that was asked for; `features_as_of` is how old the oldest is.
        consents: The last word on each purpose and channel, granted or not.
        events, decisions: The newest, the newest first.
    """

    customer_id: str
    ids: tuple[str, ...]
    features: Mapping[str, Value]
    features_as_of: datetime | None
    account_id: str | None
    consents: tuple[ConsentChange, ...]
    preferences: Preferences | None
    suppressed: tuple[str, ...]
    contacts: tuple[dict[str, Any], ...]
    purchases: tuple[dict[str, Any], ...]
    stages: tuple[str, ...]
    events: tuple[EventRecord, ...]
    decisions: tuple[DecidedView, ...]


class CustomerViews:
    """Puts the view together."""

    def __init__(self, features: Features, hot_state: HotState, newest: Newest) -> None:
        self._features = features
        self._hot_state = hot_state
        self._newest = newest

    async def of(
        self, customer_id: str, release: Release, *, market: str | None, sees: Sees, now: datetime
    ) -> CustomerView | None:
        """The view; None where nothing is known of such a customer.

        Who may ask for one `market` sees what was decided and told there; `sees` judges decisions.

        Raises:
            StoreError: Something of it cannot be read.
        """
        stored = await self._features.read(customer_id)
        account_id = stored.account_id if stored else None
        known = await self._hot_state.read(Subject(customer_id, account_id), now=now)
        if known.erased:
            return None
        ids = known.person.members if known.person else (customer_id,)
        said, events, decided = await asyncio.to_thread(self._newest.of, ids)
        if stored is None and not (known.version or known.person or said or events or decided):
            return None
        seen = [(record, outcomes) for record, outcomes in decided if sees(record)]
        catalog = release.of(market)
        customer = stored.values if stored else {}
        scope = RuleScope(now=now, customer=customer, account=stored.account if stored else {})
        hidden = await asyncio.to_thread(self._newest.elsewhere, {c.decision_id for c in known.contacts}, market)
        return CustomerView(
            customer_id=customer_id,
            ids=ids,
            features=customer,
            features_as_of=stored.as_of if stored else None,
            account_id=account_id,
            consents=tuple(said),
            preferences=known.preferences,
            suppressed=known.suppressed,
            contacts=tuple(_named(contact) for contact in known.contacts if contact.decision_id not in hidden),
            purchases=tuple(_named(purchase) for purchase in known.purchases),
            stages=stages_of(catalog, known.events, scope),
            events=tuple(event for event in events if market in (None, event.market)),
            decisions=tuple(_decided(record, outcomes) for record, outcomes in seen),
        )


def _decided(record: DecisionRecord, outcomes: list[OutcomeRecord]) -> DecidedView:
    return DecidedView(
        decision_id=record.decision_id,
        decided_at=record.decided_at,
        market=record.market,
        placement=record.placement,
        channel=record.channel,
        reason=record.reason,
        actions=tuple(slot.action_id for slot in record.slots),
        outcomes=tuple(outcomes),
    )


def _named(kept: Contact | Purchase) -> dict[str, Any]:
    """With names: these are kept as arrays."""
    return {name: getattr(kept, name) for name in kept.__struct_fields__}
