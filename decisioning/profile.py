"""What one decision knows about its customer."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from decisioning.content_types import NO_ACTION, Purpose, Value
from decisioning.event_state import KeptStates
from decisioning.identity import Person
from decisioning.preferences import Preferences


class Subject(NamedTuple):
    """Whom hot state is asked about: a customer (or anonymous visitor), and the account above, if any."""

    customer_id: str
    account_id: str | None = None


class Contact(msgspec.Struct, frozen=True, array_like=True):
    """An action that a customer saw, or for which a place is reserved.

    Attributes:
        at: When it is met: now, or the planned time of what is sent.
        until: The answer may be shown until then; asked again by then it is the same contact.
        clicked_at, accepted_at, rejected_at: What the customer made of it; a purchase accepts.
        budget, cost: What it was charged to.
        customer_id: Of several ids that are one person, the one it was made with, unless that is what the
            person is called.

    Showing nothing is kept too, so that asking again gives nothing again; no policy counts it.
    """

    action_id: str
    group: str
    channel: str
    at: datetime
    goal: str = ""
    placement: str = ""
    decision_id: str = ""
    until: datetime | None = None
    clicked_at: datetime | None = None
    accepted_at: datetime | None = None
    rejected_at: datetime | None = None
    budget: str | None = None
    cost: float = 0.0
    customer_id: str | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it is a contact at all."""
        return self.action_id != NO_ACTION


class Consent(msgspec.Struct, frozen=True, array_like=True):
    """One purpose that the customer has consented to on one channel."""

    purpose: Purpose
    channel: str


class Purchase(msgspec.Struct, frozen=True, array_like=True):
    """A product that the customer bought, last at `at`."""

    product: str
    at: datetime


class Event(msgspec.Struct, frozen=True, array_like=True):
    """What happened last at `at`: an outcome type (`accept`), or one of one action (`accept:gold_card`)."""

    name: str
    at: datetime


class BudgetLeft(msgspec.Struct, frozen=True, array_like=True):
    """What may still be charged to a budget of everyone's at this instant, pacing included."""

    budget: str
    left: float


class HotProfile(msgspec.Struct, frozen=True):
    """What hot state holds of a customer: small, and true at this instant.

    Attributes:
        suppressed: Channels on which the customer unsubscribed, complained or cannot be reached:
            nothing goes out there, whatever the channel asks for, until a later consent says otherwise.
        contacts: The customer's own of the last 30 days, oldest first; of one instant by slot.
        account_contacts: Those of the others in the customer's account.
        budgets: Of everyone's budgets.
        paused: Actions that somebody has stopped.
        withdrawn: What the customer has said no to, last.
        preferences: What the customer wishes; None where nothing was ever said.
        version: Changes whenever anything above, or the person, changes that belongs to the customer or account.
        erased: The person was erased on request: all of the above is empty, and nothing may be kept of them.
        person: Where several ids are one person, who that is; all of the above is then that of all members.
        states: What is kept of their events; None where it was not asked for.
        met_first: Of a person with several ids, the one that decisions were first made for, if they were for any.
    """

    consents: tuple[Consent, ...] = ()
    contacts: tuple[Contact, ...] = ()
    suppressed: tuple[str, ...] = ()
    account_contacts: tuple[Contact, ...] = ()
    purchases: tuple[Purchase, ...] = ()
    events: tuple[Event, ...] = ()
    budgets: tuple[BudgetLeft, ...] = ()
    paused: tuple[str, ...] = ()
    version: int = 0
    person: Person | None = None
    withdrawn: tuple[Consent, ...] = ()
    preferences: Preferences | None = None
    states: KeptStates | None = None
    erased: bool = False
    met_first: str | None = None

    def permits(self, purpose: Purpose | None, channel: str) -> bool:
        """Whether this customer may be contacted on a channel that requires consent to `purpose`, if any."""
        return channel not in self.suppressed and (purpose is None or Consent(purpose, channel) in self.consents)

    def objects_to(self, purpose: Purpose, channel: str) -> bool:
        """Whether the customer's last word on this was no."""
        return Consent(purpose, channel) in self.withdrawn


class StoredFeatures(msgspec.Struct, frozen=True):
    """What the feature store holds of a customer and the account above: values by name.

    `as_of` is how old the oldest is. `account_id` is None for a customer without an account.
    """

    values: Mapping[str, Value]
    as_of: datetime | None
    account_id: str | None = None
    account: Mapping[str, Value] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read for one decision; rules, policies and model see nothing else.

    Attributes:
        features: The customer's: stored ones, overridden by the request's.
        account: The account's features. `account_id` is None without one.
        hot: None when hot state cannot be read.
        paused: Actions that somebody has stopped; what was last known of it, when `hot` is None.
        overridden: Names of the features that the request supplied.
        as_of: Age of the oldest stored value; None for a customer that is not known.
        known: Whether the feature store knows the customer; `readable`: whether it could be asked.
            Where it could not, what only it could tell is unknown, and forbids.
        personal: Whether stored features and history may be used (`personalisation`).
    """

    features: Mapping[str, Value] = {}
    account_id: str | None = None
    account: Mapping[str, Value] = {}
    hot: HotProfile | None = HotProfile()
    paused: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    as_of: datetime | None = None
    known: bool = True
    readable: bool = True
    personal: bool = True

    @property
    def account_known(self) -> bool:
        """Whether it can be said which account the customer belongs to, if any."""
        return self.readable or self.account_id is not None

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """The customer's own contacts of late; none where they cannot be read."""
        return self.hot.contacts if self.hot else ()

    @property
    def history(self) -> tuple[Contact, ...]:
        """Those contacts, as far as the choice may hang on them; caps count them all."""
        return self.contacts if self.personal else ()

    @property
    def events(self) -> tuple[Event, ...]:
        """What the customer did, as far as the choice may hang on it."""
        return self.hot.events if self.hot and self.personal else ()


class ConsentChange(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's word on one purpose and channel, with when and where it was given, and on which legal basis."""

    customer_id: str
    purpose: Purpose
    channel: str
    granted: bool
    at: datetime
    source: str
    legal_basis: str | None = None
