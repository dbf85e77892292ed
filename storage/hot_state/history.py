"""What the ledger says of hot state: contacts, charges, outcomes, events and pauses, in an order to apply them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

import msgspec

from decisioning.content_types import CONTACT_MEMORY
from decisioning.events import Happened, happened
from decisioning.identity import LINKING, Link, links_of, units_in, with_met
from decisioning.profile import Contact, Subject
from decisioning.record import ShownSlot, lifts
from storage.hot_state.charges import CHARGE_MEMORY
from storage.hot_state.effects import CHANGES, effect_of
from storage.ledger.reader import AddressedOutcome, LedgerReader

# What was reserved this short ago may belong to a decision that is on its way to the ledger.
UNDER_WAY = timedelta(minutes=1)
# Words that may have been on their way from the ledger to hot state when a process died: as many as may wait.
NEWEST_WORDS = 10_000
# Of events likewise: a service that takes thousands a second must not take minutes to start.
NEWEST_EVENTS = 20_000
LINKS_TOGETHER = 500
PAUSES = ("action.pause", "action.resume")
_CHARGED = b'"budget":"'  # in a record whose JSON has a slot with a budget


class KeptContact(NamedTuple):
    """A contact that a decision made."""

    domain: str
    subject: Subject
    slot: int
    contact: Contact
    confirmed: bool


class _Shown(msgspec.Struct):
    """What of a decision makes contacts."""

    decision_id: str
    decided_at: datetime
    expires_at: datetime
    domain: str
    customer_id: str
    placement: str
    channel: str
    slots: tuple[ShownSlot, ...]
    account_id: str | None = None
    contact_at: datetime | None = None


def kept_contacts(reader: LedgerReader, *, now: datetime) -> Iterator[KeptContact]:
    """The contacts that still count, of every domain; and older and erased ones, for what they were charged."""
    recent = now - CONTACT_MEMORY
    for decision in reader.all_decisions(_Shown, since=now - CHARGE_MEMORY, until=recent, containing=_CHARGED):
        yield from _contacts(decision)
    for decision in reader.all_decisions(_Shown, since=recent):
        yield from _contacts(decision)
    for charge in reader.erased_charges():
        name = f"erased:{charge.seq}"
        contact = Contact(
            action_id="", group="", channel="", at=charge.at, decision_id=name, budget=charge.budget, cost=charge.cost
        )
        yield KeptContact(charge.domain, Subject(name), 1, contact, confirmed=True)


def _contacts(decision: _Shown) -> Iterator[KeptContact]:
    subject = Subject(decision.customer_id, decision.account_id)
    for slot in decision.slots:
        if slot.repeats is None:
            contact = Contact(
                action_id=slot.action_id,
                group=slot.group,
                channel=decision.channel,
                at=decision.contact_at or decision.decided_at,
                goal=slot.goal,
                placement=decision.placement,
                decision_id=decision.decision_id,
                until=decision.expires_at,
                budget=slot.budget,
                cost=slot.cost,
            )
            yield KeptContact(decision.domain, subject, slot.slot, contact, slot.confirmed)


def kept_outcomes(
    reader: LedgerReader, *, now: datetime, domain: str | None = None, received_since: datetime | None = None
) -> Iterator[AddressedOutcome]:
    """Outcomes that change a contact which still counts, or say something of the customer for good."""
    for addressed in reader.addressed_outcomes(CHANGES, domain=domain, received_since=received_since):
        if addressed.decided_at > now - CHARGE_MEMORY or effect_of(addressed.told).lasts:
            yield addressed


def kept_happened(
    reader: LedgerReader, *, domain: str, received_since: datetime | None = None, newest: int | None = None
) -> Iterator[Happened]:
    """What customers of the domain did elsewhere, for good."""
    for event in reader.events(domain, types=("track",), received_since=received_since, newest=newest):
        each = happened(event)
        if each is not None:
            yield each


def kept_links(
    reader: LedgerReader, *, domain: str, received_since: datetime | None = None, newest: int | None = None
) -> Iterator[Link]:
    """Which ids of the domain are one person, and when decisions were first made for them."""
    told = reader.events(domain, types=LINKING, received_since=received_since, newest=newest)
    links = (link for event in told for link in links_of(event))
    while together := list(islice(links, LINKS_TOGETHER)):
        yield from with_met(together, reader.met(domain, units_in(together)))


def kept_pauses(reader: LedgerReader, *, domain: str | None = None) -> list[tuple[str, str]]:
    """What is paused, as domain and action (`id`, or `market/id`): the last word counts.

    Hot state may know of more: a stop that was made while the ledger was down. So whoever applies
    these adds them to what is there, and takes nothing away.
    """
    paused: set[tuple[str, str]] = set()
    for entry in reader.audits(domain, what=PAUSES):
        if entry.what == "action.pause":
            paused.add((entry.domain, entry.subject))
        else:
            paused -= {each for each in paused if each[0] == entry.domain and lifts(entry.subject, each[1])}
    return sorted(paused)


def is_worth_a_rebuild(reader: LedgerReader, domain: str | None = None) -> bool:
    """Whether the ledger holds anything that hot state is made of."""
    counts = reader.counts(domain)
    words = counts.consents + counts.preferences + counts.events
    return counts.decisions + words > 0 or bool(kept_pauses(reader, domain=domain)) or bool(reader.erased(domain))
