"""Who is one person: the same links give the same persons, whatever order and however often they come."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning import identity
from decisioning.events import EventRecord
from decisioning.identity import (
    Known,
    Link,
    Person,
    Ties,
    is_visitor,
    linked,
    links_of,
    person_of,
    ties_of,
    units_in,
    with_met,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CUSTOMERS, VISITORS = list("abcdef"), [f"anonymous:{name}" for name in "uvwxy"]
EVERYBODY = [*CUSTOMERS, *VISITORS]

# When decisions were first made for some of them, for two at the same instant.
MET = {unit: NOW - timedelta(days=day) for unit, day in (("b", 4), ("d", 2), (VISITORS[1], 4), (VISITORS[3], 1))}
links = st.builds(
    lambda *said: with_met([Link(*said)], MET)[0],
    st.sampled_from(CUSTOMERS),
    st.sampled_from([None, *EVERYBODY]),
    st.integers(0, 5).map(lambda days: NOW + timedelta(days=days)),
)
# Links may come again, and in as many parts as there are.
told = st.lists(links, max_size=14).flatmap(
    lambda some: st.tuples(st.just(some), st.permutations([*some, *some[:3]]), st.integers(1, 5))
)


def link(customer_id: str, other: str | None = None, day: int = 0) -> Link:
    return Link(customer_id, other, NOW + timedelta(days=day))


def alias(previous: str, customer_id: str, day: int = 0) -> Link:
    return link(customer_id, previous, day)


class Kept:
    """A store, as small as can be."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}

    def tell(self, some: Iterable[Link], *, anew: bool = False) -> bool:
        """Whether it changed anything."""
        change = linked(some, lambda wanted: {u: self.known[u] for u in wanted if u in self.known}, anew=anew)
        for unit in change.ties.keys() | change.people.keys():
            known = self.known.get(unit, Known())
            self.known[unit] = Known(change.ties.get(unit, known.ties), change.people.get(unit, known.person))
        return bool(change.ties or change.people)

    @property
    def people(self) -> dict[str, Person | None]:
        return {unit: self.known.get(unit, Known()).person for unit in EVERYBODY}


def people_by_hand(some: Sequence[Link]) -> dict[str, Person | None]:
    """The same from the rules alone, without ties and without limits."""
    group = {unit: {unit} for unit in CUSTOMERS}
    for one in some:
        if one.other in group:
            both = group[one.customer_id] | group[one.other]
            for unit in both:
                group[unit] = both
    members = {unit: set(body) for unit, body in group.items()}
    found: dict[str, Person | None] = dict.fromkeys(EVERYBODY)
    for visitor in VISITORS:
        claims = [(one.at, one.customer_id) for one in some if one.other == visitor]
        if claims:
            for unit in group[min(claims)[1]]:
                members[unit].add(visitor)
    for body in members.values():
        if len(body) > 1:
            named = [(one.at, one.customer_id) for one in some if one.customer_id in body]
            customers = sorted(unit for unit in body if not is_visitor(unit))
            met = sorted((at, unit) for unit, at in MET.items() if unit in body)
            person = Person(min(named)[1], (*customers, *sorted(body - set(customers))), tuple(unit for _, unit in met))
            found.update(dict.fromkeys(body, person))
    return found


@given(told)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_persons_are_those_of_the_set_of_links_in_any_order_and_any_number_of_parts(
    case: tuple[list[Link], list[Link], int],
) -> None:
    some, shuffled, parts = case
    kept = Kept()
    for part in range(parts):
        kept.tell(shuffled[part::parts])
    assert kept.people == people_by_hand(some)
    assert not kept.tell(some), "again changes nothing"


@given(told)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_limits_hold_in_any_order_too(case: tuple[list[Link], list[Link], int]) -> None:
    some, shuffled, parts = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "MOST_SAME", 2)
        patch.setattr(identity, "MOST_VISITORS", 2)
        all_ties = ties_of(some)
        kept = Kept()
        for part in range(parts):
            kept.tell(shuffled[part::parts])
        assert kept.people == {unit: person_of(unit, all_ties) for unit in EVERYBODY}
        assert {unit: known.ties for unit, known in kept.known.items()} == all_ties


@given(told)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_everybody_is_one_person_at_most_and_all_members_agree_on_it(
    case: tuple[list[Link], list[Link], int],
) -> None:
    all_ties = ties_of(case[0])
    for unit in EVERYBODY:
        person = person_of(unit, all_ties)
        if person is not None:
            assert unit in person.members
            assert person.id in person.members
            assert not is_visitor(person.id)
            assert {person_of(member, all_ties) for member in person.members} == {person}


def test_a_chain_of_aliases_is_one_person_called_by_the_id_that_was_known_first() -> None:
    chain = [link("a", None, 0), alias("a", "b", 1), alias("b", "c", 2), alias("c", "d", 3)]
    for some in permutations(chain):
        kept = Kept()
        for one in some:
            kept.tell([one])
        assert kept.people["a"] == kept.people["d"] == Person("a", ("a", "b", "c", "d"))


def test_a_device_that_two_customers_share_is_the_first_ones_and_makes_them_not_one() -> None:
    kept = Kept()
    kept.tell([link("a", VISITORS[0], day=1)])
    kept.tell([link("b", VISITORS[0], day=2)])
    assert (kept.people["b"], kept.people[VISITORS[0]]) == (None, Person("a", ("a", VISITORS[0])))


def test_an_earlier_link_that_comes_late_moves_the_visitor() -> None:
    kept = Kept()
    kept.tell([link("b", VISITORS[0], day=2)])
    assert kept.people["b"] == Person("b", ("b", VISITORS[0]))
    kept.tell([link("a", VISITORS[0], day=1)])
    assert (kept.people["b"], kept.people[VISITORS[0]]) == (None, Person("a", ("a", VISITORS[0])))


def test_a_link_between_others_changes_nobodys_name() -> None:
    kept = Kept()
    kept.tell([link("b", VISITORS[0], day=3), alias("b", "c", 4)])
    before = kept.people["c"]
    kept.tell([link("a", VISITORS[1], day=0), alias("d", "e", 1), link("a", VISITORS[0], day=5)])
    assert before is not None
    assert (before.id, kept.people["c"]) == ("b", before)


def test_what_every_client_calls_its_customer_makes_nobody_one() -> None:
    kept = Kept()
    for number in range(identity.MOST_SAME):
        kept.tell([alias("null", f"c-{number}")])
    person = kept.known["null"].person
    assert person is not None
    assert len(person.members) == identity.MOST_SAME + 1

    kept.tell([alias("null", "one more")])
    assert {known.person for known in kept.known.values()} == {None}
    kept.tell([alias("null", "another")])
    ties = kept.known["null"].ties
    assert ties is not None
    assert len(ties.same) == identity.MOST_SAME + 1, "and it does not grow"


def test_of_very_many_devices_the_last_count() -> None:
    kept = Kept()
    number = identity.MOST_VISITORS + 1
    for day in range(number):
        kept.tell([link("a", f"anonymous:{day}", day)])
    person = kept.known["a"].person
    assert person is not None
    assert len(person.members) == number
    assert (kept.known["anonymous:0"].person, "anonymous:1" in person.members) == (None, True)

    kept.tell([link("a", "anonymous:0", number)])
    assert kept.known["anonymous:0"].person is not None
    assert kept.known["anonymous:1"].person is None


def test_a_person_was_met_first_as_whom_decisions_were_first_made_for() -> None:
    visitor, some = VISITORS[0], [link("a", VISITORS[0]), alias("a", "b", 1)]
    for order in permutations(with_met(some, {"b": NOW, visitor: NOW - timedelta(days=1)})):
        kept = Kept()
        for one in order:
            kept.tell([one])
        assert {person and person.met for person in kept.people.values()} == {None, (visitor, "b")}
        assert not kept.tell(some), "who is linked again without being met again was met all the same"


def test_who_is_met_before_the_same_link_is_told_again_was_met() -> None:
    kept = Kept()
    kept.tell([link("a", VISITORS[0])])
    before = kept.people["a"]
    assert before is not None
    assert before.met_first is None
    assert kept.tell(with_met([link("a", VISITORS[0])], {"a": NOW}))
    after = kept.people[VISITORS[0]]
    assert after is not None
    assert after.met_first == "a"


def test_when_nobody_knows_who_was_met_first_it_was_the_next() -> None:
    person = Person("a", ("a", "b", "anonymous:v"), ("anonymous:v", "b"))
    assert person.without(["anonymous:v"]) == Person("a", ("a", "b"), ("b",))
    assert Ties(met=5, same=("a",)).without(["a"]) == Ties(met=5)


def test_what_was_kept_before_anybody_was_met_is_read_as_nobody() -> None:
    for kept, kind in ((("a", ("a", "b")), Person), ((1, None, ("b",), ()), Ties)):
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=kind)
        assert read == kind(*kept)


def test_links_name_units() -> None:
    assert units_in([link("a"), link("b", VISITORS[0]), alias("c", "d")]) == {"a", "b", "c", "d", VISITORS[0]}


def test_who_logs_in_again_on_the_same_day_changes_nothing() -> None:
    kept = Kept()
    assert kept.tell([link("a", VISITORS[0])])
    assert not kept.tell([Link("a", VISITORS[0], NOW + timedelta(hours=1))])


def test_no_more_is_asked_for_than_the_persons_concerned() -> None:
    kept = Kept()
    kept.tell([link("a", VISITORS[0]), link("b", VISITORS[0], 1), link("b", VISITORS[1]), alias("b", "c")])
    asked: list[str] = []

    def look_up(wanted: Any) -> dict[str, Known]:
        asked.extend(wanted)
        return kept.known

    linked([link("a", VISITORS[2])], look_up)
    assert sorted(asked) == ["a", VISITORS[0], VISITORS[2]]


def test_persons_that_were_lost_can_be_worked_out_from_the_ties() -> None:
    kept = Kept()
    kept.tell([link("a", VISITORS[0]), link("b", VISITORS[0], 1), alias("b", "c", 2)])
    people, again = kept.people, link("b", VISITORS[0], 1)
    kept.known = {unit: Known(known.ties) for unit, known in kept.known.items()}
    assert not kept.tell([again])

    assert kept.tell([again], anew=True)
    assert kept.people == people


def event(**fields: Any) -> EventRecord:
    given = {"type": "identify", "name": "identify", "customer_id": "c-1"} | fields
    return EventRecord(event_id="shop/1", source="shop", occurred_at=NOW, received_at=NOW, **given)


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"anonymous_id": "v"}, ["anonymous:v"]),
        ({}, [None]),
        ({"type": "alias", "previous_id": "old"}, ["old", "anonymous:old"]),
        ({"type": "alias", "previous_id": "v", "anonymous_id": "v"}, ["anonymous:v"]),
        ({"type": "alias", "previous_id": "old", "anonymous_id": "v"}, ["anonymous:v", "old", "anonymous:old"]),
        ({"type": "alias", "previous_id": "old", "customer_id": None, "anonymous_id": "v"}, []),
        ({"customer_id": None, "anonymous_id": "v"}, []),
        ({"customer_id": "anonymous:w", "anonymous_id": "v"}, []),
        ({"type": "track", "anonymous_id": "v"}, []),
    ],
)
def test_an_event_links_what_it_names(fields: dict[str, Any], others: list[str | None]) -> None:
    made = links_of(event(**fields))
    assert [one.other for one in made] == others
    assert {(one.customer_id, one.at) for one in made} <= {("c-1", NOW)}


@pytest.mark.parametrize("known_as", ["customer", "visitor"])
def test_an_alias_of_either_kind_brings_what_it_names_and_calls_nobody_by_a_visitors_id(known_as: str) -> None:
    merged = links_of(event(type="alias", previous_id="old", customer_id="new"))
    before = [link("old", None, -1)] if known_as == "customer" else []
    person = person_of("new", ties_of([*merged, *before]))
    assert person == Person("old" if known_as == "customer" else "new", ("new", "old", "anonymous:old"))


def test_an_alias_of_an_id_to_itself_is_nothing() -> None:
    assert person_of("a", ties_of([alias("a", "a")])) is None
