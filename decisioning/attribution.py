"""Which decision an order without a decision's id is credited to.

A till does not know what was shown. Its order is credited, product by product and once, to the last
contact of that person with an action that promotes the product: met, begun no later than the order,
and no longer ago than its placement's attribution window.

**What customers buy anyway.** If only actions could earn orders, showing nothing would earn nothing
and every action would look like a cause. So a decision that drew `no_action` has a *ghost*: the action
that would most likely have stood in its place. It earns just what its ghost would have been credited,
had it been shown: the orders of what the ghost promotes, unless a later contact takes them. A ghost
takes an order from nobody: it measures what happens without the action. (Ghost ads: Johnson, Lewis and
Nubbemeyer, *Journal of Marketing Research* 54, 2017, section 2.)
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from decisioning.content import Placement
from decisioning.content_types import NO_ACTION
from decisioning.events import PURCHASE
from decisioning.orders import Order
from decisioning.record import Candidate, OutcomeRecord, ShownSlot
from decisioning.reward import closes_at, counted, of_slot, opens_at, was_shown

Told = Mapping[str, Sequence[OutcomeRecord]]

# A purchase that is told of a decision is the till's order of the same person and product within this time.
SAME_PURCHASE = timedelta(days=1)


class Creditable(Protocol):
    """What attribution needs of a decision; a `DecisionRecord` is one."""

    @property
    def decision_id(self) -> str:
        """Its id."""
        ...

    @property
    def customer_id(self) -> str:
        """Whom it was for."""
        ...

    @property
    def decided_at(self) -> datetime:
        """When it was made."""
        ...

    @property
    def contact_at(self) -> datetime | None:
        """When the contact is planned for, if for later."""
        ...

    @property
    def placement(self) -> str:
        """Where it was shown."""
        ...

    @property
    def slots(self) -> tuple[ShownSlot, ...]:
        """What it gave."""
        ...

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What it could have given."""
        ...


class _Contact(NamedTuple):
    """A slot that an order may be credited to, or a ghost in it."""

    opens: datetime
    decision_id: str
    slot: int
    closes: datetime
    action_id: str
    products: frozenset[str]
    is_ghost: bool


class _Purchase(NamedTuple):
    """A purchase that was told of a decision; without products, of any."""

    outcome_id: str
    at: datetime
    products: frozenset[str]


def attributed(
    outcomes: Told,
    orders: Iterable[Order],
    decisions: Iterable[Creditable],
    *,
    placements: Mapping[str, Placement],
    promotes: Mapping[str, Collection[str]],
    person: Callable[[str], str],
) -> dict[str, list[OutcomeRecord]]:
    """The outcomes by decision, with a `purchase` for each that an order is credited to.

    Args:
        outcomes: By decision, as `reward.credited` gives them.
        orders: `orders.orders_of` the events.
        decisions: At least those of the persons who ordered; of others they change nothing.
        placements: Of the catalogue; they have the windows.
        promotes: The products of the catalogue's actions (`Catalog.promotes`): what a ghost promotes.
        person: What the person behind an id is called (`identity.person_names`).
    """
    found = {decision_id: list(reported) for decision_id, reported in outcomes.items()}
    ordered: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        ordered[person(order.unit)].append(order)
    contacts: dict[str, list[_Contact]] = defaultdict(list)
    purchases: dict[str, list[_Purchase]] = defaultdict(list)
    for decision in decisions:
        who = person(decision.customer_id)
        if who in ordered:
            told = found.get(decision.decision_id, [])
            contacts[who] += _contacts(decision, told, placements, promotes)
            purchases[who] += _purchases(decision, told)
    for who, theirs in ordered.items():
        for order, products in _untold(theirs, purchases[who]):
            for outcome in _credited(order, products, contacts[who]):
                found.setdefault(outcome.decision_id, []).append(outcome)
    return found


def ghost_of(decision: Creditable) -> str | None:
    """The action that would most likely have stood where `no_action` was drawn; None where nothing was drawn.

    Of the candidates that were tried first, the one that the policy was likeliest to choose.
    """
    if not decision.slots or decision.slots[0].action_id != NO_ACTION or decision.slots[0].probability is None:
        return None
    others = [candidate for candidate in decision.candidates if candidate.action_id != NO_ACTION]
    likeliest = max(others, key=lambda c: (-c.tier, c.weight, c.priority or 0.0), default=None)
    return None if likeliest is None else likeliest.action_id


def _contacts(
    decision: Creditable,
    told: Sequence[OutcomeRecord],
    placements: Mapping[str, Placement],
    promotes: Mapping[str, Collection[str]],
) -> list[_Contact]:
    placement = placements.get(decision.placement)
    if placement is None:
        return []
    within = counted(told, decision, placement)
    opens, closes = opens_at(decision), closes_at(decision, placement)
    of_ghost = promotes.get(ghost_of(decision) or "", ())
    found = []
    for slot in decision.slots:
        is_ghost = slot.action_id == NO_ACTION
        promoted = of_ghost if is_ghost else slot.products
        if promoted and slot.repeats is None and was_shown(slot.action_id, of_slot(decision, slot, within), placement):
            found.append(
                _Contact(opens, decision.decision_id, -slot.slot, closes, slot.action_id, frozenset(promoted), is_ghost)
            )
    return found


def _purchases(decision: Creditable, told: Sequence[OutcomeRecord]) -> list[_Purchase]:
    found: dict[str, _Purchase] = {}
    for slot in decision.slots:
        for outcome in of_slot(decision, slot, told):
            if outcome.type == PURCHASE:
                found[outcome.outcome_id] = _Purchase(outcome.outcome_id, outcome.occurred_at, frozenset(slot.products))
    return list(found.values())


def _untold(orders: Sequence[Order], purchases: Sequence[_Purchase]) -> list[tuple[Order, set[str]]]:
    """Each order with the products of it that no told purchase stands for; each of those stands for one order.

    They are the same by id, or else the two that are nearest in time.
    """
    left = [(order, set(order.amounts)) for order in orders]
    used: set[str] = set()
    pairs = [
        (0.0 if same else abs((purchase.at - order.at).total_seconds()), place, purchase)
        for place, order in enumerate(orders)
        for purchase in purchases
        if (same := purchase.outcome_id in (order.order_id, order.event_id))
        or (
            abs(purchase.at - order.at) <= SAME_PURCHASE
            and (not purchase.products or purchase.products & order.amounts.keys())
        )
    ]
    for _, place, purchase in sorted(pairs, key=lambda pair: (pair[0], pair[1], pair[2].outcome_id)):
        order, products = left[place]
        by_id = purchase.outcome_id in (order.order_id, order.event_id)
        covered = products if by_id or not purchase.products else products & purchase.products
        if covered and purchase.outcome_id not in used:
            used.add(purchase.outcome_id)
            left[place] = order, products - covered
    return left


def _credited(order: Order, products: set[str], contacts: Sequence[_Contact]) -> list[OutcomeRecord]:
    """A purchase for every contact that earns something of an order, worth what it earns."""
    earned: dict[tuple[str, str], float] = defaultdict(float)
    open_then = [contact for contact in contacts if contact.opens <= order.at < contact.closes]
    for product in sorted(products):
        about = [contact for contact in open_then if product in contact.products]
        last = max((contact for contact in about if not contact.is_ghost), default=None)
        ghosts = [contact for contact in about if contact.is_ghost and (last is None or contact > last)]
        for contact in ghosts if last is None else (last, *ghosts):
            earned[contact.decision_id, contact.action_id] += order.amounts[product]
    return [
        OutcomeRecord(
            outcome_id=f"order:{order.source}:{order.order_id}",
            decision_id=decision_id,
            action_id=action_id,
            type=PURCHASE,
            detail=None,
            value=amount,
            occurred_at=order.at,
            received_at=order.received_at,
            source=order.source,
        )
        for (decision_id, action_id), amount in earned.items()
    ]
