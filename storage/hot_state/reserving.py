"""What reserving means whichever store keeps the contacts: claims of ids, and the profile afterwards."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter

import msgspec

from decisioning.profile import BudgetLeft, Contact, HotProfile

# Whoever claimed an id and left no record after this long is taken for dead.
CLAIM_TIME_OUT = timedelta(seconds=5)
# By then the ledger answers for the id.
CLAIM_KEPT = timedelta(days=1)
# A reservation that ran out may still be confirmed by an outcome that comes late.
UNCONFIRMED_KEPT = timedelta(days=7)


def is_abandoned(claimed_at: datetime, *, now: datetime) -> bool:
    """Whether who claimed an id then had time enough to leave a record."""
    return abs(now - claimed_at) >= CLAIM_TIME_OUT


def reserved_with(profile: HotProfile, contacts: Sequence[Contact], *, version: int) -> HotProfile:
    """The profile with contacts that were just made, oldest first, and what they leave of budgets."""
    charged: dict[str, float] = {}
    for contact in contacts:
        if contact.budget is not None:
            charged[contact.budget] = charged.get(contact.budget, 0.0) + contact.cost
    return msgspec.structs.replace(
        profile,
        contacts=_oldest_first(profile.contacts, contacts),
        budgets=tuple(
            BudgetLeft(entry.budget, max(0.0, entry.left - charged[entry.budget])) if entry.budget in charged else entry
            for entry in profile.budgets
        ),
        version=version,
    )


def _oldest_first(known: tuple[Contact, ...], made: Sequence[Contact]) -> tuple[Contact, ...]:
    """Those that were just made are the newest, unless others are planned for later."""
    together = (*known, *made)
    return together if not known or known[-1].at <= made[0].at else tuple(sorted(together, key=attrgetter("at")))
