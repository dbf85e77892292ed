"""The simulated shop's business customers: accounts, their contacts, and what each does there.

About a seventh of all customers buy for a company as well as for themselves. They are drawn apart
from everything else, so the rest of the world is the same with or without them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARE = 0.15  # of the customers
FEWEST, MOST = 2, 40  # contacts of an account
BUYING_ROLES = ("decision_maker", "champion", "user", "finance")  # a complete buying group has one of each
NO_ROLE = "none"
TITLES = {
    "decision_maker": ("managing_director", "head_of_purchasing", "owner"),
    "champion": ("it_manager", "office_manager", "store_manager"),
    "finance": ("finance_manager", "accountant"),
    "user": ("engineer", "sales_representative", "designer", "clerk"),
    NO_ROLE: ("assistant", "apprentice"),
}
RESPONSIBILITIES = ("purchasing", "it_equipment", "workwear", "facilities", "invoices", "travel")
# How likely somebody of a role answers for each of them, whatever the title says.
_ANSWERS_FOR = {
    "decision_maker": (0.8, 0.4, 0.2, 0.4, 0.2, 0.3),
    "champion": (0.3, 0.7, 0.4, 0.5, 0.1, 0.2),
    "finance": (0.2, 0.0, 0.0, 0.1, 0.9, 0.3),
    "user": (0.05, 0.1, 0.15, 0.1, 0.05, 0.1),
    NO_ROLE: (0.0, 0.05, 0.05, 0.1, 0.05, 0.1),
}
INDUSTRIES = ("construction", "health", "hospitality", "public", "retail", "software")
SITES = ("berlin", "basel", "bern", "graz", "hamburg", "leipzig", "munich", "utrecht", "vienna", "zurich")
PRODUCTS = ("laptop", "smartphone", "coffee_machine")  # whose penetration is known
REFERRED = 0.2  # share of contacts whom a colleague brought


@dataclass(frozen=True, slots=True)
class Accounts:
    """Every account and contact.

    Attributes:
        contacts: One row a contact: `customer_id`, `event_timestamp` and seven features.
        accounts: One row an account: `account_id`, `event_timestamp` and nine features.
        place: Each customer's row in `accounts`, -1 for who acts for nobody, `(n_customers,)`.
        role: Each customer's buying role, empty for who acts for nobody, `(n_customers,)`.
        answers_for: Who is responsible for what, `(n_customers, n_responsibilities)`.
        referrals: How many colleagues each has brought; `has_superior`: who reports to somebody.
    """

    contacts: pd.DataFrame
    accounts: pd.DataFrame
    place: NDArray[np.int64]
    role: NDArray[np.object_]
    answers_for: NDArray[np.bool_]
    referrals: Floats
    has_superior: NDArray[np.bool_]


def draw_accounts(rng: np.random.Generator, ids: list[str], spend: Floats, at: pd.Timestamp) -> Accounts:
    """Accounts over these customers; `spend` is what each spends in a year, `at` when all this is known."""
    n = len(ids)
    groups = _grouped(rng, n)
    place = np.full(n, -1)
    role = np.full(n, "", dtype=object)
    title, superior, referrer = (np.full(n, None, dtype=object) for _ in range(3))
    answers_for = np.zeros((n, len(RESPONSIBILITIES)), dtype=bool)
    referrals = np.zeros(n)
    rows: list[dict[str, Any]] = []
    for number, members in enumerate(groups):
        place[members] = number
        role[members] = _roles(rng, len(members))
        heads = [member for member in members if role[member] in ("decision_maker", "champion")]
        for rank, member in enumerate(members):
            titles = TITLES[role[member]]
            title[member] = titles[int(rng.integers(len(titles)))]
            answers_for[member] = rng.random(len(RESPONSIBILITIES)) < _ANSWERS_FOR[role[member]]
            if rank == 0:
                continue  # the first decision maker reports to nobody here
            above = heads[0] if role[member] in ("decision_maker", "champion") else heads[int(rng.integers(len(heads)))]
            superior[member] = ids[above]
            if rng.random() < REFERRED:
                colleague = members[int(rng.integers(rank))]
                referrer[member] = ids[colleague]
                referrals[colleague] += 1.0
        owned = rng.random((len(PRODUCTS), len(members))) < rng.beta(1.5, 2.5, len(PRODUCTS))[:, None]
        sites = rng.choice(len(SITES), 1 + min(int(rng.poisson(len(members) / 8.0)), len(SITES) - 1), replace=False)
        rows.append(
            {
                "account_id": f"a-{number + 1:04d}",
                "event_timestamp": at,
                "industry": None if rng.random() < 0.05 else INDUSTRIES[int(rng.integers(len(INDUSTRIES)))],
                "employees": float(round(len(members) * rng.uniform(2.0, 15.0))),
                "open_opportunities": float(rng.poisson(0.7)),
                "annual_spend": round(float(spend[members].sum() * rng.uniform(2.0, 6.0)), 2),
                **{
                    f"penetration_{product}": round(float(share), 3)
                    for product, share in zip(PRODUCTS, owned.mean(axis=1), strict=True)
                },
                "sites": [SITES[site] for site in sorted(sites)],
                "buying_group_complete": set(BUYING_ROLES) <= set(role[members]),
            }
        )
    accounts = pd.DataFrame(rows)
    inside = np.flatnonzero(place >= 0)
    contacts = pd.DataFrame(
        {
            "customer_id": [ids[member] for member in inside],
            "event_timestamp": pd.DatetimeIndex([at]).as_unit("us").repeat(len(inside)),
            "account_id": [f"a-{number + 1:04d}" for number in place[inside]],
            "job_title": title[inside],
            "buying_role": role[inside],
            "reports_to": superior[inside],
            "referred_by": referrer[inside],
            "responsibilities": [
                [name for name, answers in zip(RESPONSIBILITIES, row, strict=True) if answers]
                for row in answers_for[inside].tolist()
            ],
            "referrals": referrals[inside],
        }
    )
    accounts["event_timestamp"] = pd.DatetimeIndex(accounts["event_timestamp"]).as_unit("us")
    return Accounts(
        contacts=contacts,
        accounts=accounts,
        place=place,
        role=role,
        answers_for=answers_for,
        referrals=referrals,
        has_superior=np.array([name is not None for name in superior]),
    )


def _grouped(rng: np.random.Generator, n: int) -> list[list[int]]:
    """Customers by account, most accounts small; nobody acts for two."""
    free = rng.permutation(n)[: max(FEWEST, round(SHARE * n))].tolist()
    groups: list[list[int]] = []
    while len(free) >= FEWEST:
        size = int(np.clip(round(float(rng.lognormal(1.9, 0.8))), FEWEST, MOST))
        groups.append(free[:size])
        free = free[size:]
    return groups


def _roles(rng: np.random.Generator, size: int) -> list[str]:
    """One decides; the bigger the account, the likelier it has the others."""
    roles = ["decision_maker"]
    roles += ["champion"] * int(rng.binomial(1 + size // 12, 0.7))
    roles += ["finance"] * int(rng.binomial(1 + size // 20, 0.7))
    roles = roles[:size]
    rest = rng.random(size - len(roles)) < 0.7
    return [*roles, *("user" if is_user else NO_ROLE for is_user in rest)]
