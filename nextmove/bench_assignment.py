"""What assignments cost: many units over 20 experiments at once, and one caller's 20."""

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.assignment import Units, assignments
from decisioning.assignment_table import NO_PART, assignment_table
from decisioning.catalog import Catalog
from decisioning.content import Action, Channel, Content, Placement
from decisioning.experiment_content import Experiment, Layer, Variant
from decisioning.trial import Trial
from nextmove.console import out, print_json, print_table, step
from nextmove.peak_memory import peak_memory

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EXPERIMENTS, LAYERS = 20, 5
ONE_BY_ONE = 20_000  # units of the single path, of which each takes as long as any other
PLACEMENT = "hero"
_PART = 100_000  # ids made at a time


class AssignmentCost(NamedTuple):
    """What was measured.

    Attributes:
        units, experiments: How many there were.
        assigned: Assignments that came of them, in all.
        seconds: Of wall time, for the table.
        memory: The most that the process took, in MB, with ids and table.
        one_by_one: Seconds that `Trial.lot` would take for all of them, from as many as it was asked.
        caller_p50, caller_p99: Microseconds of one caller's assignments in a decision, rules included.
    """

    units: int
    experiments: int
    assigned: int
    seconds: float
    memory: float
    one_by_one: float
    caller_p50: float
    caller_p99: float

    @property
    def ratio(self) -> float:
        """How many times as long one by one takes."""
        return self.one_by_one / self.seconds


def run_assignment(*, units: int, as_json: bool) -> None:
    """Measure and print."""
    with step("bench assignment") as progress:
        cost = cost_of(units)
        progress.result = f"{units:,} units over {cost.experiments} experiments"
    if as_json:
        print_json(cost._asdict() | {"ratio": cost.ratio})
        return
    print_table(
        f"{cost.units:,} units over {cost.experiments} experiments in {LAYERS} layers: {cost.assigned:,} assignments",
        ("", "seconds", "us a unit"),
        [
            ("all at once", cost.seconds, 1e6 * cost.seconds / cost.units),
            ("one by one", cost.one_by_one, 1e6 * cost.one_by_one / cost.units),
        ],
    )
    out.print(f"  {cost.ratio:.1f} x as fast; {cost.memory:,.0f} MB at most, with ids and result")
    print_table(
        f"One caller's {cost.experiments} experiments, half of them with a rule", ("", "us"),
        [("p50", cost.caller_p50), ("p99", cost.caller_p99)],
    )  # fmt: skip


def cost_of(units: int) -> AssignmentCost:
    """What it costs to assign so many."""
    catalog = generated()
    trials = catalog.trials(PLACEMENT, now=NOW)
    ids = _ids(units)
    began = time.perf_counter()
    table = assignment_table(trials, ids)
    seconds, memory = time.perf_counter() - began, peak_memory()
    callers = _callers(catalog, ids)
    return AssignmentCost(
        units=units,
        experiments=len(trials),
        assigned=int(np.count_nonzero(table != NO_PART)),
        seconds=seconds,
        memory=memory / 1e6,
        one_by_one=_one_by_one(trials, ids) * units,
        caller_p50=statistics.median(callers) / 1e3,
        caller_p99=float(np.percentile(callers, 99)) / 1e3,
    )


def generated() -> Catalog:
    """A catalogue with 20 experiments, four in a layer, of which half let in half and ask for a rule."""
    experiments = tuple(
        Experiment(
            id=f"experiment_{number}",
            status="running",
            layer=f"layer_{number % LAYERS}",
            slice=(number // LAYERS / 4, (number // LAYERS + 1) / 4),
            traffic=0.5 if number % 2 else 1.0,
            eligibility="context.device == 'mobile'" if number % 2 else "true",
            variants=(Variant(id="control"), Variant(id="bold")),
        )
        for number in range(EXPERIMENTS)
    )
    content = Content(
        domain="bench",
        currency="EUR",
        groups=("cards",),
        goals=("sell",),
        channels=(Channel("web"),),
        placements=(Placement(id=PLACEMENT, channel="web", priority_scale=1.0, reward={"accept": 1.0}),),
        actions=(Action(id="card", name="Card", group="cards", goal="sell"),),
        layers=tuple(Layer(f"layer_{number}") for number in range(LAYERS)),
        experiments=experiments,
    )
    return Catalog(content, version="sha256:bench")


def _ids(units: int) -> NDArray[np.bytes_]:
    ids = np.empty(units, dtype="S17")
    for begin in range(0, units, _PART):
        numbers = range(begin, min(begin + _PART, units))
        ids[begin : begin + _PART] = [f"customer-{number:08d}".encode() for number in numbers]
    return ids


def _one_by_one(trials: Sequence[Trial], ids: NDArray[np.bytes_]) -> float:
    """Seconds a unit."""
    some = [unit.decode() for unit in ids[:ONE_BY_ONE].tolist()]
    began = time.perf_counter()
    for unit in some:
        for trial in trials:
            trial.lot(unit)
    return (time.perf_counter() - began) / len(some)


def _callers(catalog: Catalog, ids: NDArray[np.bytes_]) -> list[int]:
    """Nanoseconds of the assignments of one caller after another."""
    context: dict[str, Any] = {"device": "mobile"}
    times = []
    for unit in ids[:ONE_BY_ONE].tolist():
        caller, scope = Units(unit.decode()), catalog.scope(now=NOW, customer={}, account={}, context=context)
        began = time.perf_counter_ns()
        assignments(catalog.trials(PLACEMENT, now=NOW), caller, scope)
        times.append(time.perf_counter_ns() - began)
    return times
