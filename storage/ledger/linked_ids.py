"""Who is one person by the links that the ledger holds up to a place, looked up for a few ids."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from sqlalchemy import Connection, select

from decisioning.erased import visitor_ids
from decisioning.events import EventRecord
from decisioning.identity import LINKING, Link, Person, Ties, is_visitor, links_of, people, ties_of
from storage.ledger.parts import parts
from storage.ledger.rows import event_of
from storage.ledger.tables import events


class LinkedIds:
    """Links of a domain's ids, each read once, in a transaction of the caller's."""

    def __init__(self, connection: Connection, domain: str) -> None:
        self._connection = connection
        self._domain = domain
        self._links: dict[str, list[tuple[int, Link]]] = {}  # that name an id, with the places of their events

    def people(self, units: Iterable[str], *, at: int) -> Mapping[str, Person]:
        """Who these ids are by the links up to a place (`seq`); see `identity.people`."""
        return people(units, partial(self._ties, at=at))

    def names(self, units: Iterable[str], *, at: int) -> Callable[[str], str]:
        """What the persons of these ids are called by the links up to a place; nobody else, by the id itself."""
        known = {unit: person.id for unit, person in self.people(units, at=at).items()}
        return lambda unit: known.get(unit, unit)

    def together(self, units: Iterable[str], *, at: Collection[int]) -> set[str]:
        """These ids, and all that are one person with one of them by the links up to any of the places."""
        found = set(units)
        known = {place: set[str]() for place in at}
        while any(found - looked_up for looked_up in known.values()):
            for place, looked_up in known.items():
                news = found - looked_up
                looked_up |= news.union(self.people(news, at=place))
                found |= looked_up
        return found

    def _ties(self, units: Collection[str], *, at: int) -> Mapping[str, Ties]:
        self._read([unit for unit in units if unit not in self._links])
        said = ties_of(link for unit in units for place, link in self._links[unit] if place <= at)
        return {unit: said[unit] for unit in units if unit in said}

    def _read(self, units: Collection[str]) -> None:
        self._links.update((unit, []) for unit in units)
        wanted = set(units)
        for place, event in sorted(self._events(units).items()):
            for link in links_of(event):
                for unit in wanted.intersection((link.customer_id, link.other)):
                    self._links[unit].append((place, link))

    def _events(self, units: Collection[str]) -> dict[int, EventRecord]:
        c = events.c
        known, visitors = [unit for unit in units if not is_visitor(unit)], visitor_ids(units)
        query = select(c.seq, c.record).where(c.domain == self._domain, c.type.in_(LINKING), c.name.in_(LINKING))
        # The name is the type again, and in the indices. A previous id may be a customer's or a visitor's (`links_of`).
        named = ((c.customer_id, known), (c.anonymous_id, visitors), (c.previous_id, {*known, *visitors}))
        return {
            row.seq: event_of(row.record)
            for column, ids in named
            for part in parts(ids)
            for row in self._connection.execute(query.where(column.in_(part)))
        }
