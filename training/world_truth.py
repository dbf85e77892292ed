"""How the simulated customers really respond: a known function, so that regret can be computed.

The logit of a success adds up

- what a customer is: interest in the group (saturating), age (a bump about the action's age),
  price against what orders usually cost (a quadratic with a floor), discounts times thrift, traits;
- what was done lately: the category looked at last, more so after many visits; a filled cart helps
  services that complete an order and disturbs the rest; a purchase in the last three days closes
  the wallet for goods;
- where and when: placement, device, time of day, page, and the page's own category;
- drift: each action's appeal changes over weeks;
- fatigue: every contact of the last seven days wears off exponentially, and weighs more when it
  was of the same group, and much more when it was the same action.

A success has probability `CEILING * sigmoid(logit)`. Showing nothing has a small organic response
that depends on how often someone buys and on nothing that we do.

Business actions ask other questions of a customer (`business_logit`): the role in the account's
buying group, what somebody answers for, and the account itself. Who acts for no account never
responds to them. And nobody buys what they have (`World.response_probability`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from decisioning.profile import Contact
from training.world_accounts import RESPONSIBILITIES, Accounts
from training.world_actions import (
    ACTIONS,
    ALL_ACTIONS,
    BUSINESS,
    DAYPART_EFFECT,
    DEVICE_EFFECT,
    GROUPS,
    PAGE_EFFECT,
    PLACEMENTS,
    WorldAction,
)
from training.world_customers import ALL_CATEGORIES, TRAITS, Customers, Floats

CEILING = 0.4
BASE = -3.15
INTEREST, AGE, PRICE, DISCOUNT = 1.0, 1.4, 0.4, 2.5
SAME_GROUP, SAME_CATEGORY, CART_HELPS, CART_DISTURBS, JUST_BOUGHT = 0.5, 0.7, 1.0, 0.25, 0.5
PAGE_CATEGORY = 0.8
FATIGUE_ANY, FATIGUE_GROUP, FATIGUE_ACTION = 0.06, 0.22, 0.75  # logit per fresh contact
FATIGUE_WINDOW = timedelta(days=7)  # by then a contact is forgotten
RECOVERY_DAYS = 2.5  # a contact's weight falls by a factor of e
ORGANIC = 0.012
BUSINESS_BASE, OTHER_ROLE, ANSWERS_FOR_IT = -3.0, -2.5, 1.1
# What each business action is about.
_CONCERNS = {
    "framework_contract": ("purchasing",),
    "site_rollout": ("it_equipment", "facilities"),
    "account_review": ("purchasing", "travel"),
    "invoice_payment": ("invoices",),
    "refer_a_colleague": (),
}

_ACTION_INDEX = {action.id: index for index, action in enumerate(ALL_ACTIONS)}
_GROUP_INDEX = {group: index for index, group in enumerate((*GROUPS, BUSINESS))}
_GROUP_OF = np.array([_GROUP_INDEX[action.group] for action in ACTIONS])
_NO_CATEGORY = -3  # of business actions: neither page nor interest is about one
_CATEGORY_OF = np.array(
    [ALL_CATEGORIES.index(a.category) if a.category in ALL_CATEGORIES else _NO_CATEGORY for a in ACTIONS]
)
_GROUP_OF_CATEGORY = np.array([index for index, _ in enumerate(GROUPS) for _ in range(4)] + [-2])
_GOODS = np.array([action.group not in ("services", BUSINESS) for action in ACTIONS])
_COMPLETES_ORDER = np.array([action.category in ("delivery", "payment") for action in ACTIONS])
_DRIFT = np.array([action.drift for action in ACTIONS])


def _with_unknown(effects: Sequence[Sequence[float]]) -> Floats:
    """Effects by action, `(n_levels + 1, n_actions)`; the last row, reached by -1, is for an unknown level.

    Business is business at any hour and on any device.
    """
    by_group = np.column_stack([np.array(effects), np.zeros(len(effects))])
    return np.vstack([by_group[:, _GROUP_OF], np.zeros(len(ACTIONS))])


_DEVICE, _DAYPART, _PAGE = (_with_unknown(table) for table in (DEVICE_EFFECT, DAYPART_EFFECT, PAGE_EFFECT))
_READINESS = np.array([placement.readiness for placement in PLACEMENTS])


@dataclass(frozen=True, slots=True)
class Moments:
    """When and where `n` customers are met, coded; every array is `(n,)`.

    `device`, `daypart`, `page` and `page_category` are places in the world's tables, -1 unknown;
    `days` counts from the world's start; `week` is the snapshot of recent behaviour that is known.
    """

    customer: NDArray[np.int64]
    placement: NDArray[np.int64]
    device: NDArray[np.int64]
    daypart: NDArray[np.int64]
    page: NDArray[np.int64]
    page_category: NDArray[np.int64]
    days: Floats
    week: NDArray[np.int64]


class Truth:
    """Response probabilities of these customers; `rng` gives each action its idiosyncrasies."""

    def __init__(self, customers: Customers, accounts: Accounts, rng: np.random.Generator) -> None:
        self._recent = customers.recent
        self._profile_logit = _profile_logit(customers, accounts, rng)
        frequent = customers.traits[:, TRAITS.index("frequent")]
        self._organic: Floats = ORGANIC * np.exp(0.6 * frequent)

    def probabilities(self, moments: Moments, contacts: Sequence[Sequence[Contact]], nows: Sequence[float]) -> Floats:
        """Chance of a success in slot 1 by action, `(n, n_actions)`, the last column being no action.

        `contacts` are those of each customer, `nows` the POSIX time of each moment.
        """
        logit = self._profile_logit[moments.customer] + self._recent_logit(moments)
        logit += _context_logit(moments) + drift(moments.days) - fatigue(contacts, nows)
        shown = CEILING / (1.0 + np.exp(-logit))
        return np.column_stack([shown, self._organic[moments.customer]])

    def _recent_logit(self, moments: Moments) -> Floats:
        at = (moments.week, moments.customer)
        visits, cart, since = (
            self._recent.visits_7d[at],
            self._recent.cart_value[at],
            self._recent.days_since_purchase[at],
        )
        category = self._recent.last_category[at]
        busy = (visits / (visits + 2.0))[:, None]
        effect = SAME_GROUP * (_GROUP_OF_CATEGORY[category][:, None] == _GROUP_OF) * (0.5 + busy)
        effect += SAME_CATEGORY * (category[:, None] == _CATEGORY_OF) * (0.5 + busy)
        filled = (cart > 40.0)[:, None]
        effect += filled * np.where(_COMPLETES_ORDER, CART_HELPS, -CART_DISTURBS)
        return effect - JUST_BOUGHT * ((since < 3.0)[:, None] & _GOODS)


def drift(days: Floats) -> Floats:
    """Change of each action's appeal, `(n, n_actions)` without no action, `days` after the start."""
    rise, middle, swing, period = _DRIFT.T
    return rise * np.tanh((days[:, None] - middle) / 14.0) + swing * np.sin(2.0 * np.pi * days[:, None] / period)


def fatigue(contacts: Sequence[Sequence[Contact]], nows: Sequence[float]) -> Floats:
    """What recent contacts take off the logit, `(n, n_actions)` without no action; at least 0."""
    load = np.zeros((len(contacts), len(ACTIONS)))
    window = FATIGUE_WINDOW.total_seconds()
    for row, (past, now) in enumerate(zip(contacts, nows, strict=True)):
        for contact in past:
            age = now - contact.at.timestamp()
            if not 0.0 <= age < window:
                continue
            weight = math.exp(-age / (RECOVERY_DAYS * 86_400.0))
            load[row] += FATIGUE_ANY * weight
            if contact.group in _GROUP_INDEX:
                load[row, _GROUP_INDEX[contact.group] == _GROUP_OF] += FATIGUE_GROUP * weight
            if contact.action_id in _ACTION_INDEX:
                load[row, _ACTION_INDEX[contact.action_id]] += FATIGUE_ACTION * weight
    return load


def business_logit(action: WorldAction, accounts: Accounts) -> Floats:
    """Readiness for a business action, `(n_customers,)`; minus infinity for who acts for no account."""
    acts = accounts.place >= 0
    company = accounts.accounts.iloc[accounts.place[acts]]
    role = np.where(np.isin(accounts.role[acts], action.roles), 0.0, OTHER_ROLE)
    concerns = [RESPONSIBILITIES.index(name) for name in _CONCERNS[action.id]]
    answers = accounts.answers_for[acts][:, concerns].any(axis=1)
    logit = BUSINESS_BASE + action.appeal + role + ANSWERS_FOR_IT * answers
    if action.id == "framework_contract":
        logit += np.clip(0.5 * np.log(np.maximum(company["annual_spend"].to_numpy(), 1.0) / 8_000.0), -1.0, 1.0)
    elif action.id == "site_rollout":
        sites = company["sites"].map(len).to_numpy()
        logit += 0.5 * np.minimum(sites - 2.0, 2.0) - 1.5 * company["penetration_laptop"].to_numpy()
    elif action.id == "account_review":
        logit += 0.4 * np.minimum(company["open_opportunities"].to_numpy(), 2.0)
    elif action.id == "refer_a_colleague":
        logit += 0.6 * np.minimum(accounts.referrals[acts], 2.0) + 0.4 * accounts.has_superior[acts]
        logit -= 0.6 * company["buying_group_complete"].to_numpy(dtype=np.float64)
    everyone = np.full(len(acts), -np.inf)
    everyone[acts] = logit
    return everyone


def _profile_logit(customers: Customers, accounts: Accounts, rng: np.random.Generator) -> Floats:
    n = len(customers.ids)
    logit = np.empty((n, len(ACTIONS)))
    interest = INTEREST * np.tanh(customers.affinity / 1.5) * 1.5
    thrifty = customers.traits[:, TRAITS.index("thrifty")]
    quirks = rng.normal(0.0, 0.12, (len(ACTIONS), len(TRAITS)))
    for index, action in enumerate(ACTIONS):
        if action.group == BUSINESS:
            logit[:, index] = business_logit(action, accounts)
            continue
        weights = quirks[index].copy()
        for trait, weight in action.traits:
            weights[TRAITS.index(trait)] += weight
        dear = np.log(action.price / customers.budget) - 0.3
        logit[:, index] = (
            BASE
            + action.appeal
            + interest[:, _GROUP_OF[index]]
            - PRICE * np.minimum(np.maximum(dear, 0.0) ** 2, 3.5)
            + DISCOUNT * action.discount_rate * thrifty
            + customers.traits @ weights
        )
        if action.age is not None:
            logit[:, index] += AGE * (np.exp(-(((customers.age - action.age) / 13.0) ** 2)) - 0.4)
    return logit


def _context_logit(moments: Moments) -> Floats:
    same = moments.page_category[:, None] == _CATEGORY_OF
    return (
        _READINESS[moments.placement][:, None]
        + _DEVICE[moments.device]
        + _DAYPART[moments.daypart]
        + _PAGE[moments.page]
        + PAGE_CATEGORY * same
    )
