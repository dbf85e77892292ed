"""Budgets of everyone's in Redis: leased to replicas, so that no decision waits for a key that all share.

A replica leases a sixteenth of what is left and charges decisions to that in its own memory; what is
leased counts as spent. Once a sixteenth is worth less than eight charges, a decision leases just what
it may need, and gives back at once what it did not take: nothing strands. A lease ends after five
seconds without use, and is given back. A replica that dies keeps its lease (a sixteenth of what was
left, at most) until the budget's next period or `nextmove state rebuild`. Nothing is ever spent twice.

A rebuild counts what is spent anew, without leases. Whoever leased before drops that: a lease knows what
the budget's hash was called, and all leases go when the mark of the rebuild is another.

What an unconfirmed reservation was charged is pending: it comes back when its time has run out. It
is noted after the reservation; a replica that dies between the two leaves it charged, as above.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from decisioning.budget import released
from decisioning.content import Budget
from decisioning.profile import BudgetLeft
from storage.hot_state.charges import MILLIONTHS, Period, period_at, room_in
from storage.hot_state.redis_connection import Command
from storage.hot_state.redis_scripts import GIVE_BACK, LEASE, SETTLE, SETTLED
from storage.hot_state.redis_values import Charge, Keys, Settlement
from storage.instants import to_microseconds

LEASED_FOR = timedelta(seconds=5)
# No decision takes as long, so none still holds anything of it.
FORGOTTEN_AFTER = timedelta(hours=1)
# What others spend is known with this delay while much is left.
KNOWN_FOR = timedelta(seconds=1)
SHARE = 16
CHARGES_WORTH_A_LEASE = 8


@dataclass(slots=True)
class Lease:
    """What this replica may charge in one period of a budget.

    Attributes:
        amount: Leased and not charged yet, in millionths.
        spent: What everyone has spent, all leases included, at `asked_at`.
        unit: The largest charge met; 0 as long as none was.
        single: Whether so little is left that each decision leases for itself.
        source: What the budget's hash was called when it was asked.
    """

    amount: int = 0
    spent: int = 0
    unit: int = 0
    single: bool = True
    source: bytes = b""
    asked_at: float = float("-inf")
    used_at: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether it was ever asked what is spent."""
        return self.asked_at > float("-inf")


Slot = tuple[str, Period]


class Leases:
    """All leases of one replica. It sends nothing itself: it says what to send, and is told the replies."""

    def __init__(
        self, keys: Keys, *, clock: Callable[[], datetime], timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._timer = timer
        self._leases: dict[Slot, Lease] = {}
        self._names = (f"{name}{number}" for name in [secrets.token_hex(4)] for number in count())

    def to_ask(self, budgets: Iterable[Budget], *, now: datetime, at: datetime) -> list[tuple[Budget, Command]]:
        """What a read must ask to know what is left at a time: nothing, where a lease says it."""
        questions = []
        for budget in budgets:
            period = period_at(budget, at)
            if period is None:
                continue
            lease = self._leases.get((budget.id, period))
            fresh = lease is not None and self._timer() - lease.asked_at < KNOWN_FOR.total_seconds()
            if lease is None or lease.single or not fresh:
                unit = lease.unit if lease and lease.amount < lease.unit * CHARGES_WORTH_A_LEASE else 0
                questions.append((budget, self._question(budget, period, 0, unit, now=now, at=at)))
        return questions

    def answered(self, budget: Budget, reply: Sequence[Any], *, at: datetime) -> int:
        """Take what was leased; returns it."""
        period = period_at(budget, at)
        assert period is not None
        lease = self._leases.setdefault((budget.id, period), Lease())
        leased, lease.spent, single, source = int(reply[0]), int(reply[1]), bool(reply[2]), bytes(reply[3])
        if source != lease.source:
            lease.amount, lease.source = 0, source
        lease.amount += leased
        lease.single = single and lease.amount < max(lease.unit, 1) * CHARGES_WORTH_A_LEASE
        lease.asked_at = lease.used_at = self._timer()
        return leased

    def room(self, budgets: Iterable[Budget], *, now: datetime) -> list[BudgetLeft]:
        """What is left of each budget, as far as is known: this replica's lease and what nobody has."""
        room = []
        for budget in budgets:
            period = period_at(budget, now)
            lease = self._leases.get((budget.id, period)) if period is not None else None
            if lease is not None and lease.is_known:
                room.append(room_in(budget, lease.spent - lease.amount, now=now))
            elif period is None:
                room.append(BudgetLeft(budget.id, 0.0))
        return room

    def hold(
        self, budget: Budget, largest: int, wanted: int, *, now: datetime, at: datetime
    ) -> tuple[int, Command | None]:
        """Take up to `wanted` out of the lease, before anything is awaited; and what to ask for the rest."""
        period = period_at(budget, at)
        if period is None:
            return 0, None
        lease = self._leases.setdefault((budget.id, period), Lease())
        lease.unit, lease.used_at = max(lease.unit, largest), self._timer()
        if wanted <= 0:
            return 0, None
        held = min(lease.amount, wanted)
        lease.amount -= held
        if held == wanted:
            return held, None
        return held, self._question(budget, period, wanted - held, lease.unit, now=now, at=at)

    def source(self, budget: Budget, *, at: datetime) -> bytes:
        """Where what is held now came from; it can only be given back there."""
        lease = self._lease(budget, at)
        return lease.source if lease else b""

    def give_back(self, budget: Budget, amount: int, *, at: datetime, source: bytes) -> None:
        """Put back what was held and not charged."""
        lease = self._lease(budget, at)
        if lease is not None and lease.source == source:
            lease.amount += amount

    def spare(self, budget: Budget, *, at: datetime) -> list[Command]:
        """What to send where so little is left that others need what this replica does not."""
        period = period_at(budget, at)
        lease = self._leases.get((budget.id, period)) if period is not None else None
        return self._return(budget.id, period, lease) if period is not None and lease and lease.single else []

    def drop_all(self) -> None:
        """Forget every lease: what is spent was counted without them."""
        self._leases.clear()

    def ended(self) -> list[Command]:
        """What to send to give back every lease that nobody used of late."""
        now = self._timer()
        unused = [slot for slot, lease in self._leases.items() if now - lease.used_at >= LEASED_FOR.total_seconds()]
        commands = [command for slot in unused for command in self._return(*slot, self._leases[slot])]
        for slot in unused:
            if now - self._leases[slot].used_at >= FORGOTTEN_AFTER.total_seconds():
                del self._leases[slot]
        return commands

    @property
    def any_open(self) -> bool:
        """Whether anything is leased."""
        return any(lease.amount for lease in self._leases.values())

    def all_ended(self) -> list[Command]:
        """What to send to give back every lease."""
        leases, self._leases = self._leases, {}
        return [command for slot, lease in leases.items() for command in self._return(*slot, lease)]

    def pending(self, charge: Charge, until: datetime) -> Command:
        """Note that this charge comes back at a time, unless its contact is confirmed by then."""
        return "ZADD", self._keys.budget(charge.budget)[1], to_microseconds(until), charge.name

    def _lease(self, budget: Budget, at: datetime) -> Lease | None:
        period = period_at(budget, at)
        return self._leases.get((budget.id, period)) if period is not None else None

    def _return(self, budget: str, period: Period, lease: Lease) -> list[Command]:
        amount, lease.amount = lease.amount, 0
        lease.spent -= amount
        if amount <= 0:
            return []
        key, name = self._keys.budget(budget)[0], f"{period.begin}/{period.end}"
        return [("EVAL", GIVE_BACK.source, 1, key, name, lease.source, amount)]

    def _question(
        self, budget: Budget, period: Period, wanted: int, unit: int, *, now: datetime, at: datetime
    ) -> Command:
        may_be_spent = int(released(budget, now=at) * MILLIONTHS + 0.5)
        swept = to_microseconds(min(now, self._clock()))
        numbers = (*period, may_be_spent, wanted, unit, swept, SHARE, CHARGES_WORTH_A_LEASE, next(self._names))
        return "EVALSHA", LEASE.sha, 3, *self._keys.budget(budget.id)[:3], *numbers


def settle_command(keys: Keys, due: Settlement) -> Command:
    """What lets the budget know."""
    charge = due.charge
    numbers = (charge.name, charge.at, charge.amount, charge.kind)
    return "EVALSHA", SETTLE.sha, 4, *keys.budget(charge.budget), due.state, int(due.was_kept), *numbers


def settled_command(keys: Keys, due: Settlement) -> Command:
    """What lets the budget forget that it knows, once the contact says so."""
    return "EVAL", SETTLED.source, 1, keys.budget(due.charge.budget)[3], due.charge.name, due.state
