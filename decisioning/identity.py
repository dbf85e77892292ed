"""Who is one person: what links say of ids, and whom they make one.

A link comes from an `identify` or an `alias` (`links_of`). What links say of one id is kept as its
`Ties`, and ties only ever join: in any order, and however often, the same links leave the same
ties, and persons are a function of the ties (`person_of`). So are merges, and so is a visitor who
moves to another customer because an earlier link became known late.

- An alias joins two known ids; who is joined to the same id is the same person.
- A visitor belongs to the customer with the earliest link, and joins nobody: two customers who share
  a device stay two.
- A person is called by the known id that a link named first (ties: the smaller id). What has been decided of a
  person by chance, as an experiment's variant, stays that of the id that decisions were first made for (`met`).
- What cannot be true of a person joins nobody: an id with more than `MOST_SAME` aliases (some client's
  "null"). Of a customer's visitors the `MOST_VISITORS` last identified count.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

import msgspec

from decisioning.event_state import microseconds
from decisioning.events import EventRecord

MOST_SAME = 20
MOST_VISITORS = 50
LINKING = ("identify", "alias")
VISITOR = "anonymous:"
_DAY = timedelta(days=1) // timedelta(microseconds=1)
# The time of a link that is later than any: it says no more of an id than others did.
_SAYS_NOTHING = datetime.max.replace(tzinfo=UTC)


class Link(NamedTuple):
    """A known id, and what else the same person is called: a known id, a visitor's unit, or None for nothing.

    `met` and `other_met` are when decisions were first made for the one and the other, where any were; see `with_met`.
    """

    customer_id: str
    other: str | None
    at: datetime
    met: datetime | None = None
    other_met: datetime | None = None


class Person(msgspec.Struct, frozen=True, array_like=True):
    """Several ids that are one person.

    Attributes:
        id: What the person is called, one of `members`.
        met: Members that decisions were made for, whoever was met first before the others.
    """

    id: str
    members: tuple[str, ...]
    met: tuple[str, ...] = ()

    @property
    def met_first(self) -> str | None:
        """The member that decisions were first made for, if they were for any."""
        return self.met[0] if self.met else None

    def without(self, units: Collection[str]) -> "Person | None":
        """Who is left when nobody knows these ids any more; None where that is one id alone."""
        left, met = (tuple(one for one in some if one not in units) for some in (self.members, self.met))
        return Person(self.id if self.id in left else left[0], left, met) if len(left) > 1 else None


class Ties(msgspec.Struct, frozen=True, array_like=True):
    """What links say of one id; times are microseconds since 1970.

    Attributes:
        since: When a link first named it as a known id.
        owner: Of a visitor, the earliest link's time and customer.
        same: Known ids that are the same person; one more than `MOST_SAME` says that there are too many.
        visitors: Who was identified as this customer: the last day of that, and the visitor.
        met: When decisions were first made for it.
    """

    since: int | None = None
    owner: tuple[int, str] | None = None
    same: tuple[str, ...] = ()
    visitors: tuple[tuple[int, str], ...] = ()
    met: int | None = None

    def joined(self, more: "Ties") -> "Ties":
        """All that both say; in any order, and again, the same.

        >>> Ties(since=5, same=("b",)).joined(Ties(since=3, same=("a",)))
        Ties(since=3, owner=None, same=('a', 'b'), visitors=(), met=None)
        """
        days: dict[str, int] = {}
        for day, visitor in (*self.visitors, *more.visitors):
            days[visitor] = max(day, days.get(visitor, day))
        return Ties(
            since=_earlier(self.since, more.since),
            owner=min((owner for owner in (self.owner, more.owner) if owner is not None), default=None),
            same=tuple(sorted({*self.same, *more.same})[: MOST_SAME + 1]),
            visitors=tuple(sorted(((day, visitor) for visitor, day in days.items()), reverse=True)[:MOST_VISITORS]),
            met=_earlier(self.met, more.met),
        )

    def without(self, units: Collection[str]) -> "Ties":
        """What is left when nobody knows these ids any more."""
        return Ties(
            since=self.since,
            owner=self.owner if self.owner is not None and self.owner[1] not in units else None,
            same=tuple(one for one in self.same if one not in units),
            visitors=tuple(each for each in self.visitors if each[1] not in units),
            met=self.met,
        )

    @property
    def joins(self) -> tuple[str, ...]:
        """Known ids that this one may be joined to."""
        return self.same if len(self.same) <= MOST_SAME else ()


class Known(NamedTuple):
    """What a store keeps of an id."""

    ties: Ties | None = None
    person: Person | None = None


class Change(NamedTuple):
    """What a store must write, if all ties that it was asked for still stand; who is nobody else has no person."""

    ties: Mapping[str, Ties]
    people: Mapping[str, Person | None]


NO_TIES, UNKNOWN = Ties(), Known()
# Yields ids, is sent what is kept of them (those of which nothing is may be absent), returns what to write.
Linking = Generator[Collection[str], Mapping[str, Known], Change]


def visitor(anonymous_id: str) -> str:
    """What hot state calls an anonymous visitor; see `DecisionRequest.unit`."""
    return VISITOR + anonymous_id


def is_visitor(unit: str) -> bool:
    """Whether this is an anonymous visitor's unit; see `DecisionRequest.unit`."""
    return unit.startswith(VISITOR)


def links_of(event: EventRecord) -> tuple[Link, ...]:
    """The links that an event makes.

    An alias' `previous_id` may be a known id or a visitor's, and only one that is the `anonymous_id` as
    well, as browsers send it, says which. Any other stands for both: nobody has anything under the
    one that it is not.

    >>> from datetime import UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> login = EventRecord(event_id="shop/1", source="shop", type="identify", name="identify", customer_id="c-1",
    ...                     anonymous_id="v-1", occurred_at=at, received_at=at)
    >>> [link.other for link in links_of(login)]
    ['anonymous:v-1']
    """
    known = event.customer_id
    if event.type not in LINKING or known is None or is_visitor(known):
        return ()
    others: list[str] = []
    if event.anonymous_id is not None:
        others.append(VISITOR + event.anonymous_id)
    if event.type == "alias" and event.previous_id is not None and event.previous_id != event.anonymous_id:
        others += [event.previous_id, VISITOR + event.previous_id]
    if not others:
        return (Link(known, None, event.occurred_at),)
    return tuple(Link(known, other, event.occurred_at) for other in others)


def units_in(links: Iterable[Link]) -> set[str]:
    """All ids that these links name."""
    return {unit for link in links for unit in (link.customer_id, link.other) if unit is not None}


def with_met(links: Iterable[Link], met: Mapping[str, datetime]) -> list[Link]:
    """The links with when decisions were first made for the ids that they name, of those for which any were."""
    return [link._replace(met=met.get(link.customer_id), other_met=met.get(link.other or "")) for link in links]


def ties_of(links: Iterable[Link]) -> dict[str, Ties]:
    """What these links say of each id that they name."""
    said: dict[str, Ties] = {}

    def say(unit: str, ties: Ties) -> None:
        known = said.get(unit)
        said[unit] = ties if known is None else known.joined(ties)

    for known, other, time, *times in links:
        at = microseconds(time)
        met, other_met = (None if each is None else microseconds(each) for each in times)
        if other is None or other == known:
            say(known, Ties(since=at, met=met))
        elif is_visitor(other):
            say(known, Ties(since=at, visitors=((at // _DAY, other),), met=met))
            say(other, Ties(owner=(at, known), met=other_met))
        else:
            say(known, Ties(since=at, same=(other,), met=met))
            say(other, Ties(same=(known,), met=other_met))
    return said


def _earlier(one: int | None, other: int | None) -> int | None:
    return min((at for at in (one, other) if at is not None), default=None)


def person_of(unit: str, ties: Mapping[str, Ties]) -> Person | None:
    """Who an id is, by the ties of all who may be the same person; None where nobody else is.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> shared = ties_of([Link("ann", "anonymous:tablet", noon), Link("bob", "anonymous:tablet", noon + timedelta(1))])
    >>> person_of("ann", shared).members, person_of("bob", shared)
    (('ann', 'anonymous:tablet'), None)
    """
    start = unit
    if is_visitor(unit):
        owner = ties.get(unit, NO_TIES).owner
        if owner is None:
            return None
        start = owner[1]
    body, to_visit = {start}, [start]
    while to_visit:
        one = to_visit.pop()
        for other in ties.get(one, NO_TIES).joins:
            if other not in body and one in ties.get(other, NO_TIES).joins:
                body.add(other)
                to_visit.append(other)
    visitors = {
        visitor
        for one in body
        for _, visitor in ties.get(one, NO_TIES).visitors
        if (owner := ties.get(visitor, NO_TIES).owner) is not None and owner[1] in body
    }
    if unit not in body | visitors or len(body) + len(visitors) == 1:
        return None
    named = [(since, one) for one in body if (since := ties.get(one, NO_TIES).since) is not None]
    members = (*sorted(body), *sorted(visitors))
    met = sorted((at, one) for one in members if (at := ties.get(one, NO_TIES).met) is not None)
    return Person(min(named)[1], members, tuple(one for _, one in met))


def person_names(links: Iterable[Link]) -> Callable[[str], str]:
    """What the person behind an id is called, by these links alone; nobody else, by the id itself.

    >>> from datetime import UTC
    >>> named = person_names([Link("ann", "anonymous:tablet", datetime(2026, 1, 1, tzinfo=UTC))])
    >>> named("anonymous:tablet"), named("bob")
    ('ann', 'bob')
    """
    ties = ties_of(links)

    @cache
    def name(unit: str) -> str:
        person = person_of(unit, ties) if unit in ties else None
        return unit if person is None else person.id

    return name


def people(units: Iterable[str], look_up: Callable[[Collection[str]], Mapping[str, Ties]]) -> Mapping[str, Person]:
    """Who these ids are, by id, and who is one person with them; whoever is nobody else is left out.

    `look_up` gives what links say of ids; those of which they say nothing may be absent.

    >>> from datetime import UTC
    >>> ties = ties_of([Link("ann", "anonymous:tablet", datetime(2026, 1, 1, tzinfo=UTC))])
    >>> [(unit, person.id) for unit, person in people(["anonymous:tablet", "bob"], lambda _: ties).items()]
    [('ann', 'ann'), ('anonymous:tablet', 'ann')]
    """
    found = linked(
        [Link(unit, None, _SAYS_NOTHING) for unit in units],
        lambda wanted: {unit: Known(ties) for unit, ties in look_up(wanted).items()},
        anew=True,
    ).people
    return {unit: person for unit, person in found.items() if person is not None}


def linked(
    links: Iterable[Link], look_up: Callable[[Collection[str]], Mapping[str, Known]], *, anew: bool = False
) -> Change:
    """What links change, where what is kept of ids can be looked up at once; see `linking`."""
    steps = linking(links, anew=anew)
    known: Mapping[str, Known] | None = None
    while True:
        try:
            known = look_up(next(steps) if known is None else steps.send(known))
        except StopIteration as done:
            change: Change = done.value
            return change


def linking(links: Iterable[Link], *, anew: bool = False) -> Linking:
    """What links change; `anew` also works out again the persons of ids of which they say nothing new.

    It asks for what it needs, several ids at a time, and for no more than the persons concerned.
    """
    said = ties_of(links)
    known: dict[str, Known] = {}
    ties: dict[str, Ties] = {}

    def load(wanted: Iterable[str]) -> Generator[Collection[str], Mapping[str, Known], set[str]]:
        missing = set(wanted) - known.keys()
        if missing:
            found = yield sorted(missing)
            for unit in missing:
                known[unit] = found.get(unit, UNKNOWN)
                ties[unit] = known[unit].ties or NO_TIES
        return missing

    yield from load(said)
    changed = {unit: joined for unit, more in said.items() if (joined := ties[unit].joined(more)) != ties[unit]}
    if not changed and not anew:
        return Change({}, {})
    ties.update(changed)
    # Whoever was one person with them may be no longer.
    concerned = set(said)
    for unit in said:
        person = known[unit].person
        concerned.update(person.members if person else ())
    yield from load(concerned)
    owners = (owner[1] for unit in concerned if (owner := ties[unit].owner) is not None)
    together = {unit for unit in concerned if not is_visitor(unit)} | set(owners)
    yield from load(together)
    news = together
    while news:
        news = yield from load(other for unit in news for other in ties[unit].joins)
        together |= news
    yield from load(visitor for unit in together for _, visitor in ties[unit].visitors)
    people: dict[str, Person | None] = {}
    for unit in sorted(concerned):
        if unit not in people:
            person = person_of(unit, ties)
            people.update(dict.fromkeys(person.members if person else (unit,), person))
    return Change(
        changed,
        {unit: person for unit, person in people.items() if person != known[unit].person},
    )
