"""The simulated retail world: customers, their visits, and what they do with what they are shown.

A loop over it reads

    world = World(seed=1)
    memory = world.memory()
    for visit in world.visits(rng, 20_000, start=world.log_end, per_day=2_000):
        action_ids = ...                                        # whoever decides, in slot order
        seen = memory.contacts(visit.customer_id, now=visit.now)
        owned = memory.purchases(visit.customer_id, now=visit.now)
        truth = world.expected_reward([visit], [seen], [owned])
        reports = world.outcomes(visit, action_ids, memory, rng=rng, decision_id=...)

The world knows the truth (`world_truth`), so the value of any choice, and the best choice among
any candidates, can be computed exactly. `Memory` is what customers remember: it changes, the world
does not.
"""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.content_types import NO_ACTION, Scalar
from decisioning.profile import Contact
from training.world_accounts import Accounts, draw_accounts
from training.world_actions import (
    ALL_ACTIONS,
    DAYPARTS,
    DEVICES,
    EXAMINATION,
    PAGES,
    PLACEMENTS,
    REFERRERS,
    WorldPlacement,
    contract_value,
)
from training.world_customers import ALL_CATEGORIES, PROFILE_AT, START, WEEK, WEEKS, Customers, Floats, draw_customers
from training.world_outcomes import Report, draw_reactions, report
from training.world_truth import FATIGUE_WINDOW, Moments, Truth

LOG_DAYS = 60
REMEMBERED = timedelta(days=30)
# Visits by hour of the day (UTC), relative to each other.
_HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 9, 11, 13, 14, 12, 7, 3], dtype=np.float64)


class Visit(NamedTuple):
    """A customer at a placement, now: what a decision is asked for. `customer` is a place in `World.customers`."""

    customer: int
    customer_id: str
    placement: str
    context: Mapping[str, Scalar]
    now: datetime


class Memory:
    """What customers saw in the last days, what they bought, and on which channels they said no."""

    def __init__(self) -> None:
        self._contacts: dict[str, list[Contact]] = {}
        self._bought: dict[str, list[tuple[str, datetime]]] = {}
        self._withdrawn: set[tuple[str, str]] = set()

    def contacts(self, customer_id: str, *, now: datetime) -> list[Contact]:
        """Contacts of the last thirty days, as hot state holds them, oldest first; exactly that old is gone."""
        return [contact for contact in self._contacts.get(customer_id, []) if now - contact.at < REMEMBERED]

    def show(self, customer_id: str, contact: Contact) -> None:
        """The customer has seen this; nothing shown is nothing seen."""
        if contact.action_id != NO_ACTION:
            recent = self.contacts(customer_id, now=contact.at)
            self._contacts[customer_id] = [*recent, contact]

    def buy(self, customer_id: str, product: str, at: datetime) -> None:
        """The customer buys a product, now or later."""
        self._bought.setdefault(customer_id, []).append((product, at))

    def purchases(self, customer_id: str, *, now: datetime) -> dict[str, datetime]:
        """What the customer has bought by now: products, each with when it was bought last."""
        latest: dict[str, datetime] = {}
        for product, at in self._bought.get(customer_id, ()):
            if at <= now:
                latest[product] = max(at, latest.get(product, at))
        return latest

    def withdraw(self, customer_id: str, channel: str) -> None:
        """The customer unsubscribed from a channel."""
        self._withdrawn.add((customer_id, channel))

    def has_withdrawn(self, customer_id: str, channel: str) -> bool:
        """Whether the customer unsubscribed from a channel."""
        return (customer_id, channel) in self._withdrawn


class World:
    """A shop, its customers and the truth about them, all from one seed.

    Attributes:
        customers: Features, consents and traits of everyone.
        accounts: The companies that some of them buy for, and what they do there.
        action_ids: The columns of every array by action; `no_action` is the last.
        values: What a success is worth on average, in euros, `(n_actions,)`; a framework contract
            with a known account is worth more, see `worth`.
        log_start, log_end: The time that the log of past decisions covers.
    """

    def __init__(self, seed: int, customers: int = 20_000) -> None:
        self.seed = seed
        self.customers: Customers = draw_customers(np.random.default_rng([seed, 1]), customers)
        self.accounts: Accounts = draw_accounts(
            np.random.default_rng([seed, 4]),
            self.customers.ids,
            self.customers.profile["spend_365d"].to_numpy(),
            pd.Timestamp(PROFILE_AT),
        )
        self._truth = Truth(self.customers, self.accounts, np.random.default_rng([seed, 2]))
        self.action_ids = tuple(action.id for action in ALL_ACTIONS)
        self.values: Floats = np.array([action.value for action in ALL_ACTIONS])
        self._worth_more = self._contract_values()
        self.placements: dict[str, WorldPlacement] = {placement.id: placement for placement in PLACEMENTS}
        self.log_start = START
        self.log_end = START + timedelta(days=LOG_DAYS)
        self._action_index = {action_id: index for index, action_id in enumerate(self.action_ids)}
        self._fits = {
            channel: np.array([channel in action.channels for action in ALL_ACTIONS])
            for channel in ("web", "email", "app")
        }
        is_for = {action.roles for action in ALL_ACTIONS}
        self._meant = {
            role: np.array([not action.roles or role in action.roles for action in ALL_ACTIONS])
            for role in {"", *self.accounts.role, *(role for roles in is_for for role in roles)}
        }
        self._mobile: Floats = self.customers.profile["mobile_share"].to_numpy()
        self._reach = {
            "web": _cumulative(self.customers.activity),
            "email": _cumulative(self.customers.activity**0.3 * self.customers.email_consent),
            "app": _cumulative(self.customers.activity * self.customers.has_app),
        }

    def memory(self) -> Memory:
        """A fresh memory: nobody has seen anything yet."""
        return Memory()

    def response_probability(
        self,
        visits: Sequence[Visit],
        contacts: Sequence[Sequence[Contact]],
        purchases: Sequence[Mapping[str, datetime]] = (),
    ) -> Floats:
        """Chance of a success of each action in slot 1, whether it may be shown or not, `(n_visits, n_actions)`.

        `contacts` and `purchases` are the customer's at each visit (`Memory`); without `purchases`
        nobody has bought anything yet. What somebody has is not bought again.
        """
        nows = [visit.now.timestamp() for visit in visits]
        chances = self._truth.probabilities(_moments(visits, nows), contacts, nows)
        for row, (visit, bought) in enumerate(zip(visits, purchases, strict=False)):
            if bought:
                chances[row, owned(bought, now=visit.now)] = 0.0
        return chances

    def worth(self, visits: Sequence[Visit]) -> Floats:
        """What a success of each action is worth on average at each visit, in euros, `(n_visits, n_actions)`."""
        worth = np.tile(self.values, (len(visits), 1))
        worth[:, _CONTRACT] = self._worth_more[[visit.customer for visit in visits]]
        return worth

    def expected_reward(
        self,
        visits: Sequence[Visit],
        contacts: Sequence[Sequence[Contact]],
        purchases: Sequence[Mapping[str, datetime]] = (),
    ) -> Floats:
        """Probability times value, in euros, `(n_visits, n_actions)`."""
        return self.response_probability(visits, contacts, purchases) * self.worth(visits)

    def available(self, visit: Visit, memory: Memory | None = None) -> NDArray[np.bool_]:
        """Which actions may be shown, `(n_actions,)`; showing nothing always may.

        The placement's channel and consent say so, the customer's role where an action is for some
        roles only, and, with a memory, what was bought.
        """
        channel = self.placements[visit.placement].channel
        if not self._consents(visit, channel) or (memory and memory.has_withdrawn(visit.customer_id, channel)):
            return np.array([action_id == NO_ACTION for action_id in self.action_ids])
        allowed = self._fits[channel] & self._meant[self.accounts.role[visit.customer]]
        if memory:
            allowed &= ~owned(memory.purchases(visit.customer_id, now=visit.now), now=visit.now)
        return allowed

    def columns(self, action_ids: Sequence[str]) -> NDArray[np.int64]:
        """Places of these actions in every array by action."""
        return np.array([self._action_index[action_id] for action_id in action_ids], dtype=np.int64)

    def visits(self, rng: np.random.Generator, n: int, *, start: datetime, per_day: float) -> Iterator[Visit]:
        """`n` visits from `start` on, in order of time, about `per_day` of them a day.

        People who come often come often; few come at night. Newsletters go only to those who agreed
        to them; the app's inbox is opened by whoever has the app.
        """
        days = np.cumsum(rng.exponential(1.0 / per_day, n))
        placements = rng.choice(len(PLACEMENTS), n, p=[placement.traffic for placement in PLACEMENTS])
        share = np.concatenate([[0.0], np.cumsum(_HOURS) / _HOURS.sum()])
        offset = (start - start.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(days=1)
        # Time runs fast when many visit: uniform time is mapped through the day's distribution.
        running = days + np.interp(offset, np.linspace(0.0, 1.0, 25), share)
        midnight = start - timedelta(days=offset)
        at = np.floor(running) + np.interp(running % 1.0, share, np.linspace(0.0, 1.0, 25))
        for place, day in zip(placements.tolist(), at.tolist(), strict=True):
            placement = PLACEMENTS[place]
            reach = self._reach[placement.channel]
            customer = int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))
            now = max(start, midnight + timedelta(days=day))
            context = draw_context(rng, placement, float(self._mobile[customer]), now)
            yield Visit(customer, self.customers.ids[customer], placement.id, context, now)

    def outcomes(
        self,
        visit: Visit,
        action_ids: Sequence[str],
        memory: Memory,
        *,
        rng: np.random.Generator,
        decision_id: str,
    ) -> list[Report]:
        """What the customer does with these actions (in slot order), drawn from the truth, by time of report.

        Successes come within minutes to 44 hours; of all reports 3 % come twice and 2 % never.
        The memory learns what was shown, what is bought and who unsubscribed.
        """
        before = memory.contacts(visit.customer_id, now=visit.now)
        lately = sum(visit.now - contact.at < FATIGUE_WINDOW for contact in before)
        bought = memory.purchases(visit.customer_id, now=visit.now)
        chances = self.response_probability([visit], [before], [bought])[0]
        worth = self.worth([visit])[0]
        channel = self.placements[visit.placement].channel
        reports: list[Report] = []
        for slot, action_id in enumerate(action_ids):
            column = self._action_index[action_id]
            action = ALL_ACTIONS[column]
            chance = float(chances[column]) * EXAMINATION[min(slot, len(EXAMINATION) - 1)]
            memory.show(visit.customer_id, Contact(action_id, action.group, channel, visit.now))
            for reaction in draw_reactions(rng, action, channel, chance, lately, worth=float(worth[column])):
                if reaction.type == "unsubscribe":
                    memory.withdraw(visit.customer_id, channel)
                if reaction.type == "purchase" and action.product is not None:
                    memory.buy(visit.customer_id, action.product, visit.now + timedelta(seconds=reaction.after))
                reports.append(
                    report(rng, reaction, decision_id=decision_id, action_id=action_id, decided_at=visit.now)
                )
        return sorted(reports, key=lambda item: item.reported_at)

    def _contract_values(self) -> Floats:
        values = np.full(len(self.customers.ids), self.values[_CONTRACT])
        acts = self.accounts.place >= 0
        by_account = self.accounts.accounts["employees"].map(contract_value).to_numpy()
        values[acts] = by_account[self.accounts.place[acts]]
        return values

    def _consents(self, visit: Visit, channel: str) -> bool:
        if channel == "email":
            return bool(self.customers.email_consent[visit.customer])
        return channel == "web" or bool(self.customers.app_consent[visit.customer])


def owned(purchases: Mapping[str, datetime], *, now: datetime) -> NDArray[np.bool_]:
    """Which actions promote a product that the customer has and does not want again yet, `(n_actions,)`."""
    has = np.zeros(len(ALL_ACTIONS), dtype=bool)
    for product, at in purchases.items():
        for column in _PROMOTING.get(product, ()):
            again_after = ALL_ACTIONS[column].again_after
            has[column] = again_after is None or now - at < again_after
    return has


def draw_context(
    rng: np.random.Generator, placement: WorldPlacement, mobile: float, now: datetime
) -> dict[str, Scalar]:
    """What the caller knows of the moment; an e-mail is sent from nowhere, an app is on a phone.

    `mobile` is how readily the customer uses a phone, 0 to 1. In one visit of 25 the device is not known.
    """
    context: dict[str, Scalar] = {"daypart": DAYPARTS[now.hour // 6]}
    if placement.channel == "email":
        return context
    if placement.channel == "app":
        return {**context, "device": "tablet" if rng.random() < 0.1 else "mobile"}
    if rng.random() > 0.04:
        kind = rng.random()
        context["device"] = DEVICES[0] if kind < 0.15 + 0.7 * mobile else DEVICES[2] if kind > 0.93 else DEVICES[1]
    context["referrer"] = REFERRERS[bisect((0.4, 0.75, 0.9), rng.random())]
    if placement.id == "home_hero":
        return {**context, "page": "home"}
    context["page"] = PAGES[1 + bisect((0.3, 0.8), rng.random())]
    if context["page"] != "cart":
        context["page_category"] = ALL_CATEGORIES[rng.integers(len(ALL_CATEGORIES))]
    return context


_CONTRACT = [action.id for action in ALL_ACTIONS].index("framework_contract")
_PROMOTING = {
    product: [column for column, action in enumerate(ALL_ACTIONS) if action.product == product]
    for product in {action.product for action in ALL_ACTIONS if action.product is not None}
}
_PLACEMENT_INDEX = {placement.id: index for index, placement in enumerate(PLACEMENTS)}
_CODES = {
    name: {level: code for code, level in enumerate(levels)}
    for name, levels in (
        ("device", DEVICES), ("daypart", DAYPARTS), ("page", PAGES), ("page_category", ALL_CATEGORIES)
    )
}  # fmt: skip


def _moments(visits: Sequence[Visit], nows: Sequence[float]) -> Moments:
    days = (np.array(nows) - START.timestamp()) / 86_400.0

    def codes(name: str) -> NDArray[np.int64]:
        known = _CODES[name]
        return np.array([known.get(str(visit.context.get(name)), -1) for visit in visits], dtype=np.int64)

    return Moments(
        customer=np.array([visit.customer for visit in visits], dtype=np.int64),
        placement=np.array([_PLACEMENT_INDEX[visit.placement] for visit in visits], dtype=np.int64),
        device=codes("device"),
        daypart=codes("daypart"),
        page=codes("page"),
        page_category=codes("page_category"),
        days=days,
        week=np.clip(np.floor(days / (WEEK / timedelta(days=1))), 0, WEEKS - 1).astype(np.int64),
    )


def _cumulative(weights: Floats) -> Floats:
    return np.cumsum(weights / weights.sum())
