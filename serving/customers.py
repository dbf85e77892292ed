"""What customers say of themselves: consent, preferences, and that they want no more messages.

Each word is made durable, then told to hot state: it is true at the next decision, on every replica.
A word that is kept but could not be told is an error, and telling it again is safe.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from decisioning.catalog import Release
from decisioning.content_types import MARKETING, PURPOSES, Purpose
from decisioning.errors import RequestError, StoreError
from decisioning.preferences import Preferences, PreferencesChange
from decisioning.profile import Consent, ConsentChange, Contact, Subject
from decisioning.pseudonyms import Pseudonyms
from decisioning.record import AuditRecord
from decisioning.request import OutcomeReport, Time, sane
from decisioning.reward import CLOCK_TOLERANCE
from serving.outcomes import Outcomes
from serving.ports import HotState, Ledger

Words = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
ONE_CLICK = "one-click unsubscribe"


class ConsentStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One word of a customer on being personally decided for (`personalisation`) or sent messages (`marketing`).

    `channel` absent means every channel there is. `at` is when it was said, now when absent; the last
    word counts, and of two at one instant the one that withdraws. `source` is where it was said, the
    caller's name when absent.
    """

    purpose: str
    granted: bool
    channel: str | None = None
    source: Words | None = None
    at: Time | None = None
    legal_basis: Words | None = None


class PreferencesStatement(Preferences, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """All that a customer wishes: what is not said is not wished. `source` and `at` as in `ConsentStatement`."""

    source: Words | None = None
    at: Time | None = None


class Word(msgspec.Struct, frozen=True):
    """A purpose and a channel."""

    purpose: Purpose
    channel: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What holds now. On `suppressed` channels the customer unsubscribed, complained or cannot be reached.

    What is said of an erased person is `ignored`: nothing of it is kept.
    """

    customer_id: str
    consents: tuple[Word, ...]
    withdrawn: tuple[Word, ...]
    suppressed: tuple[str, ...]
    preferences: Preferences | None
    status: Literal["ignored"] | msgspec.UnsetType = msgspec.UNSET


class Customers:
    """Takes customers' words."""

    def __init__(self, hot_state: HotState, ledger: Ledger, outcomes: Outcomes, pseudonyms: Pseudonyms) -> None:
        self._hot_state = hot_state
        self._ledger = ledger
        self._outcomes = outcomes
        self._pseudonyms = pseudonyms

    async def consent(
        self, customer_id: str, said: Sequence[ConsentStatement], release: Release, *, actor: str, now: datetime
    ) -> Standing:
        """Keep consents, all or none; what they answer (`Action.asks`) is accepted. `actor` tells them.

        Raises:
            RequestError: One of them cannot be; of several, `where` begins with its place, `[2]`.
            StoreError: They are not kept, or do not count yet; send them again.
        """
        changes: list[ConsentChange] = []
        kept_as = self._pseudonyms.of(customer_id)
        for place, statement in enumerate(said):
            prefix = f"[{place}]." if len(said) > 1 else ""
            changes += _changes(kept_as, statement, release, actor=actor, now=now, prefix=prefix)
        if await self._ledger.erased([kept_as]):
            return await self.standing(customer_id, now=now)
        await self._ledger.append_consents(changes)
        await self._hot_state.consent(changes)
        await self._accept(kept_as, changes, release, actor=actor, now=now)
        return await self.standing(customer_id, now=now)

    async def prefer(
        self, customer_id: str, said: PreferencesStatement, release: Release, *, actor: str, now: datetime
    ) -> Standing:
        """Keep preferences, in place of those that were said before.

        Raises:
            RequestError: They cannot be kept to.
            StoreError: They are not kept, or do not count yet; send them again.
        """
        wished = Preferences(topics=said.topics, frequency=said.frequency).checked(
            frozenset().union(*(catalog.topics for catalog in release.markets.values()))
        )
        at = _said_at(said.at, now=now, where="at")
        kept_as = self._pseudonyms.of(customer_id)
        if await self._ledger.erased([kept_as]):
            return await self.standing(customer_id, now=now)
        change = PreferencesChange(customer_id=kept_as, preferences=wished, at=at, source=said.source or actor)
        await self._ledger.append_preferences(change)
        await self._hot_state.prefer(change)
        return await self.standing(customer_id, now=now)

    async def unsubscribe(self, customer_id: str, channel: str, *, domain: str, now: datetime) -> None:
        """Send this customer no more messages here; again changes nothing until they consent anew.

        Raises:
            StoreError: It is not kept, or does not hold yet.
        """
        try:
            known = await self._hot_state.read(Subject(customer_id), now=now)
            if known.erased or known.objects_to(MARKETING, channel):
                return
        except StoreError:
            pass  # what cannot be read can still be kept
        change = ConsentChange(
            customer_id=customer_id, purpose=MARKETING, channel=channel, granted=False, at=now, source=ONE_CLICK
        )
        await self._ledger.append_consents([change])
        await self._hot_state.consent([change])
        entry = AuditRecord(
            at=now, domain=domain, actor=ONE_CLICK, what="customer.unsubscribe", subject=customer_id, reason=channel
        )
        await self._ledger.append_audit(entry)

    async def standing(self, customer_id: str, *, now: datetime) -> Standing:
        """What holds of a customer now.

        Raises:
            StoreError: It cannot be read.
        """
        known = await self._hot_state.read(Subject(self._pseudonyms.of(customer_id)), now=now)
        return Standing(
            customer_id=customer_id,
            consents=_words(known.consents),
            withdrawn=_words(known.withdrawn),
            suppressed=known.suppressed,
            preferences=known.preferences,
            status="ignored" if known.erased else msgspec.UNSET,
        )

    async def _accept(
        self, customer_id: str, changes: Sequence[ConsentChange], release: Release, *, actor: str, now: datetime
    ) -> None:
        """Report that the last action which asked for a consent was accepted, once, within its attribution window."""
        actions, placements = release.everywhere.actions, release.everywhere.placements
        asking = {
            action.id: Consent(action.asks.purpose, action.asks.channel)
            for action in actions.values()
            if action.asks is not None
        }
        given = {Consent(c.purpose, c.channel): c.at for c in changes if c.granted} if asking else {}
        if not given.keys() & set(asking.values()):
            return
        contacts = (await self._hot_state.read(Subject(customer_id), now=now)).contacts
        last: dict[Consent, Contact] = {}
        for contact in contacts:
            wanted = asking.get(contact.action_id)
            if wanted is not None and wanted in given and contact.at <= given[wanted]:
                last[wanted] = contact
        reports = [
            OutcomeReport(
                decision_id=contact.decision_id,
                action_id=contact.action_id,
                type="accept",
                outcome_id=f"consent:{contact.decision_id}:{contact.action_id}",
                occurred_at=given[wanted],
            )
            for wanted, contact in last.items()
            if contact.accepted_at is None
            and contact.placement in placements
            and given[wanted] - contact.at < placements[contact.placement].attribution_window
        ]
        await self._outcomes.record(reports, release, now=now, source=actor)


def _changes(
    customer_id: str, said: ConsentStatement, release: Release, *, actor: str, now: datetime, prefix: str
) -> list[ConsentChange]:
    """A change for each channel that is meant."""
    purpose = next((purpose for purpose in PURPOSES if purpose == said.purpose), None)
    if purpose is None:
        raise RequestError(
            f"{prefix}purpose is '{said.purpose}', must be one of {', '.join(PURPOSES)}", where=f"{prefix}purpose"
        )
    channels = sorted(release.everywhere.channels)
    if said.channel is not None and said.channel not in channels:
        raise RequestError(
            f"{prefix}channel is '{said.channel}', must be one of {', '.join(channels)}, or left out for all of them",
            where=f"{prefix}channel",
        )
    at = _said_at(said.at, now=now, where=f"{prefix}at")
    return [
        ConsentChange(
            customer_id=customer_id,
            purpose=purpose,
            channel=channel,
            granted=said.granted,
            at=at,
            source=said.source or actor,
            legal_basis=said.legal_basis,
        )
        for channel in (channels if said.channel is None else [said.channel])
    ]


def _said_at(at: datetime | None, *, now: datetime, where: str) -> datetime:
    """When it was said. A clock that is fast must not let this word beat a later one."""
    if at is None:
        return now
    if sane(at, where=where) - now > CLOCK_TOLERANCE:
        raise RequestError(
            f"{where} is {at.isoformat()}, must not lie in the future (now {now.isoformat()})", where=where
        )
    return min(at, now)


def _words(consents: Sequence[Consent]) -> tuple[Word, ...]:
    return tuple(Word(consent.purpose, consent.channel) for consent in consents)
