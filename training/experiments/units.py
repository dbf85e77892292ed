"""Who met which variant of an experiment, and when first: from the ledger, a row for each unit.

A unit counts from its first exposure on:

- where a variant changes what is decided, and where a decision counts as shown, the first decision: whether anything
  is seen then hangs on the variant, and to count only who saw something would compare unlike units;
- else the first outcome that the placement is `shown_by`: an impression, or `sent` of what is sent;
- or an event `experiment_viewed` with `experiment_id` and `variation_id`, from a caller who asked for the assignment
  alone (experiments over customers).

By a market's catalogue, only decisions of that market count. Testers, the holdout and fallbacks are left out, and so
is who met two variants, as two ids can that turn out to be one person.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from decisioning.assignment import Units, assignments
from decisioning.case import SESSION
from decisioning.catalog import Catalog
from decisioning.content_types import BLUEPRINT, Value
from decisioning.events import EventRecord
from decisioning.experiment_content import Experiment
from decisioning.identity import LINKING, links_of, person_names
from decisioning.record import FORCED
from decisioning.rules import RuleFailure, RuleScope
from decisioning.trial import is_held_out
from storage.instants import to_microseconds
from storage.ledger.reader import Report

VIEWED = "experiment_viewed"
Integers = NDArray[np.int64]
Kind = TypeVar("Kind")


class ExperimentReader(Protocol):
    """What is read of the ledger; `storage.ledger.reader.LedgerReader` is one."""

    def all_decisions(
        self, kind: type[Kind], *, domain: str | None = None, since: datetime | None = None, until: datetime | None
    ) -> Iterator[Kind]:
        """Of every decision of the domain in this time, the fields of `kind`."""
        ...

    def reports(self, types: Collection[str]) -> Iterator[Report]:
        """Outcomes of these types, in the order of arrival."""
        ...

    def events(
        self, domain: str, *, types: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> Iterator[EventRecord]:
        """The domain's events in the order of arrival."""
        ...


class _Asked(msgspec.Struct):
    context: dict[str, Any] = {}


class _Assigned(msgspec.Struct):
    experiment: str
    variant: str
    reason: str = "SPLIT"
    version: int = 1


class Decided(msgspec.Struct):
    """What of a `DecisionRecord` an analysis needs; the rest is not read."""

    decision_id: str
    decided_at: datetime
    market: str
    customer_id: str
    placement: str
    request: _Asked
    features: dict[str, Value]
    assignments: tuple[_Assigned, ...]
    reason: str
    account_id: str | None = None
    account: dict[str, Value] = {}
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Exposures:
    """The `n` units that met one variant.

    Attributes:
        variant: Place in the experiment's variants, `(n,)`.
        first: Each unit's first exposure, in microseconds since 1970, `(n,)`.
        crossed: Units that met two variants and are left out.
        members: By audience, whether the unit belonged to it when it was first assigned, `(n,)`.
    """

    variant: Integers
    first: Integers
    crossed: int
    members: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.variant)


class UnitsRead:
    """Units by number, in the order in which decisions and events named them, and what they met.

    Attributes:
        of_decision: By decision, the number of its unit.
    """

    def __init__(
        self, experiment: Experiment, catalog: Catalog, *, person: Callable[[str], str], audiences: Collection[str] = ()
    ) -> None:
        self.of_decision: dict[str, int] = {}
        self._experiment = experiment
        self._catalog = catalog
        self._market = catalog.content.market
        self._person = person
        self._audiences = tuple(audiences)
        self._variants = {variant.id: place for place, variant in enumerate(experiment.variants)}
        self._by_decision = any(variant.changes for variant in experiment.variants)
        self._numbers: dict[str, int] = {}
        self._accounts: dict[str, str] = {}
        self._awaited: dict[str, tuple[int, int, str]] = {}
        self._met: list[tuple[int, int, int]] = []
        self._members: dict[int, tuple[bool, ...]] = {}

    @property
    def shown_by(self) -> set[str]:
        """The outcome types that expose a unit."""
        return {shown_by for _, _, shown_by in self._awaited.values()}

    def decided(self, decided: Decided) -> None:
        """A decision: its unit, and what it was assigned."""
        unit = self._unit_of(decided)
        if unit is None or decided.erased:
            return
        number = self._number(unit)
        self.of_decision[decided.decision_id] = number
        if decided.account_id is not None:
            self._accounts[self._person(decided.customer_id)] = decided.account_id
        place = self._place_of(decided) if self._market in (BLUEPRINT, decided.market) else None
        if place is None or decided.reason == "HOLDOUT" or decided.reason.startswith("FALLBACK"):
            return
        if self._audiences and number not in self._members:
            self._members[number] = self._audiences_of(decided)
        placement = self._catalog.placements.get(decided.placement)
        shown_by = "impression" if placement is None else placement.shown_by
        if self._by_decision or shown_by == "decision":
            self._met.append((number, place, to_microseconds(decided.decided_at)))
        else:
            self._awaited[decided.decision_id] = number, place, shown_by

    def reported(self, report: Report) -> None:
        """An outcome that may show a decision."""
        awaited = self._awaited.get(report.decision_id)
        if awaited is not None and awaited[2] == report.type:
            self._met.append((*awaited[:2], report.at))

    def viewed(self, event: EventRecord) -> None:
        """An event `experiment_viewed`: a caller showed the variant that it had asked for."""
        experiment, said = self._experiment, event.properties
        place = self._variants.get(str(said.get("variation_id")))
        if said.get("experiment_id") != experiment.id or place is None or experiment.unit != "customer":
            return
        early = experiment.starts is not None and event.occurred_at < experiment.starts
        if not early and not is_held_out(self._catalog.content.holdout, event.unit):
            self._met.append((self._number(self._person(event.unit)), place, to_microseconds(event.occurred_at)))

    def of_event(self, event: EventRecord) -> int | None:
        """The number of the unit that did it; None for one that nothing was decided for, or is not known."""
        name: str | None = self._person(event.unit)
        if self._experiment.unit == "account":
            name = self._accounts.get(name or "")
        return None if name is None or self._experiment.unit == "session" else self._numbers.get(name)

    def exposures(self, *, until: int) -> tuple[Exposures, Integers]:
        """Who met one variant before `until`, and for each unit's number its row, or -1."""
        n = len(self._numbers)
        met = np.array([each for each in self._met if each[2] < until], dtype=np.int64).reshape(-1, 3)
        first = np.full(n, np.iinfo(np.int64).max)
        least, most = np.full(n, len(self._variants)), np.full(n, -1)
        np.minimum.at(first, met[:, 0], met[:, 2])
        np.minimum.at(least, met[:, 0], met[:, 1])
        np.maximum.at(most, met[:, 0], met[:, 1])
        testers = [self._numbers[name] for name in map(self._person, self._experiment.testers) if name in self._numbers]
        most[testers] = -1
        kept = (most >= 0) & (least == most)
        crossed = int(((most >= 0) & (least != most)).sum())
        rows = np.where(kept, np.cumsum(kept) - 1, -1)
        nobody = (False,) * len(self._audiences)
        belongs = np.array(
            [self._members.get(number, nobody) for number in np.flatnonzero(kept).tolist()], dtype=np.bool_
        )
        members = {name: belongs[:, column] for column, name in enumerate(self._audiences)} if len(belongs) else {}
        return Exposures(most[kept], first[kept], crossed, members), rows

    def _place_of(self, decided: Decided) -> int | None:
        """The place of the variant that the decision was assigned; None where it was none."""
        its = (self._experiment.id, self._experiment.version)
        found = (each for each in decided.assignments if (each.experiment, each.version) == its)
        return next((self._variants.get(each.variant) for each in found if each.reason != FORCED), None)

    def _number(self, unit: str) -> int:
        return self._numbers.setdefault(unit, len(self._numbers))

    def _unit_of(self, decided: Decided) -> str | None:
        if self._experiment.unit == "account":
            return decided.account_id
        if self._experiment.unit == "session":
            session = decided.request.context.get(SESSION)
            return session if isinstance(session, str) else None
        return self._person(decided.customer_id)

    def _audiences_of(self, decided: Decided) -> tuple[bool, ...]:
        scope = scope_of(decided, self._catalog)

        def holds(name: str) -> bool:
            try:
                return self._catalog.audiences[name].holds(scope)
            except RuleFailure:
                return False

        return tuple(holds(name) for name in self._audiences)


class WouldBe(UnitsRead):
    """Units that would have taken part in an experiment, had it run since `begin`: all met its first variant."""

    def __init__(
        self, experiment: Experiment, catalog: Catalog, *, person: Callable[[str], str], begin: datetime
    ) -> None:
        super().__init__(experiment, catalog, person=person)
        self._begin = begin
        running = replace(experiment, status="running", testers={})
        content = replace(catalog.content, experiments=(running,))
        self._trial = Catalog(content, version=catalog.version).experiments[experiment.id]
        self._placements = frozenset(experiment.placements or catalog.placements)

    def _place_of(self, decided: Decided) -> int | None:
        if decided.decided_at < self._begin or decided.placement not in self._placements:
            return None
        session = decided.request.context.get(SESSION)
        units = Units(decided.customer_id, decided.account_id, session if isinstance(session, str) else None)
        return 0 if assignments((self._trial,), units, scope_of(decided, self._catalog)) else None


def scope_of(decided: Decided, catalog: Catalog) -> RuleScope:
    """What rules saw when it was decided."""
    return catalog.scope(
        now=decided.decided_at, customer=decided.features, account=decided.account, context=decided.request.context
    )


def person_of_reader(reader: ExperimentReader, domain: str) -> Callable[[str], str]:
    """What the person behind an id is called, by all that the ledger was told."""
    return person_names(link for event in reader.events(domain, types=LINKING) for link in links_of(event))
