"""How many ingested customers each audience and each action has now, and whom a channel may reach."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

import msgspec

from decisioning.audience_list import member
from decisioning.catalog import Catalog
from decisioning.reach import askable, channel_reaches, reach_of
from decisioning.running_dry import Size
from training.known_customers import KnownCustomer

Progress = Callable[[str], None]
_EVERY = 5_000


class AudienceSize(msgspec.Struct, kw_only=True):
    """An audience as it is now.

    Attributes:
        unknown: Customers for whom the rule could not be evaluated; they count as outside.
        reachable: By channel, members who let us contact them there.
        minimum: What the catalogue demands, by channel.
    """

    audience: str
    members: int = 0
    unknown: int = 0
    reachable: dict[str, int]
    minimum: dict[str, int]


class ActionSize(msgspec.Struct, kw_only=True):
    """An action as it is now: customers to whom it is open (`decisioning.reach`).

    `unknown` are those of whom only a request could say: a rule needs its context.
    """

    action: str
    open_to: int = 0
    unknown: int = 0


class Counted(msgspec.Struct, kw_only=True):
    """Every audience and action of a market at an instant, over so many ingested customers."""

    market: str
    at: datetime
    customers: int = 0
    audiences: list[AudienceSize]
    actions: list[ActionSize]

    def sizes(self) -> list[Size]:
        """The same, as it is kept."""

        def size(kind: str, name: str, count: int) -> Size:
            return msgspec.convert((self.market, kind, name, self.at, count, self.customers), Size)

        found = [size("audience", each.audience, each.members) for each in self.audiences]
        found += [size("reach", f"{a.audience}/{c}", count) for a in self.audiences for c, count in a.reachable.items()]
        return [*found, *(size("action", each.action, each.open_to) for each in self.actions)]


def count_audiences(
    catalog: Catalog,
    customers: Iterable[KnownCustomer],
    *,
    now: datetime,
    only: Collection[str] | None = None,
    untold: Collection[tuple[str, str]] = (),
    progress: Progress = lambda _: None,
) -> Counted:
    """The sizes of all audiences and actions, or of the audiences in `only` and no action.

    An action that nobody could be shown now (a draft, one that is paused or not valid yet) has no size. `untold` is
    what nobody can say of any customer (`audience_list.member`).
    """
    audiences = [a for a in catalog.content.audiences if only is None or a.id in only]
    counted = Counted(
        market=catalog.content.market,
        at=now,
        audiences=[
            AudienceSize(audience=a.id, reachable=dict.fromkeys(a.minimum_size, 0), minimum=dict(a.minimum_size))
            for a in audiences
        ],
        actions=[],
    )
    actions: dict[str, ActionSize] | None = None
    for customer in customers:
        counted.customers += 1
        if actions is None:  # what is paused, every profile says
            found = askable(catalog, paused=customer.facts.paused, now=now) if only is None else ()
            actions = {action_id: ActionSize(action=action_id) for action_id in found}
        _count(catalog, customer, counted.audiences, actions, untold, now=now)
        if counted.customers % _EVERY == 0:
            progress(f"{counted.customers:,} customers")
    counted.actions = list((actions or {}).values())
    return counted


def _count(
    catalog: Catalog,
    customer: KnownCustomer,
    audiences: Iterable[AudienceSize],
    actions: dict[str, ActionSize],
    untold: Collection[tuple[str, str]],
    *,
    now: datetime,
) -> None:
    facts = customer.facts
    scope = catalog.scope(now=now, customer=facts.features, account=facts.account, context={})
    for audience in audiences:
        belongs = member(catalog.audiences[audience.audience], scope, untold)
        audience.unknown += belongs is None
        if not belongs:
            continue
        audience.members += 1
        for channel in audience.reachable:
            audience.reachable[channel] += channel_reaches(catalog, channel, customer.hot)
    if not actions:
        return
    reach = reach_of(catalog, customer.customer_id, facts, now=now)
    for action_id, action in actions.items():
        action.open_to += action_id in reach.actions
        action.unknown += action_id in reach.unknown
