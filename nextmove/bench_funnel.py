"""What the pure funnel costs, and how that grows: narrow, plan, take, finish, with the scores given.

Everything is generated from a seed, so two machines measure the same work. Beside it stands what the
rule library alone costs for these rules, called directly: ratios to that carry over to other machines.
"""

import random
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import cel
import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning import decision as funnel
from decisioning.case import Case, case_of
from decisioning.catalog import Catalog
from decisioning.content import Action, Channel, ContactPolicy, Content, ContextWeight, Placement, Treatment
from decisioning.content_types import NO_ACTION, CountedPer, Value
from decisioning.experiment_content import Holdout
from decisioning.exploration import SquareCB
from decisioning.profile import Contact, Facts, HotProfile
from decisioning.request import DecisionRequest
from decisioning.reservation import take
from decisioning.scores import Scores
from nextmove.bench_hot_state import HotStateCost, hot_state_cost
from nextmove.console import out, print_json, print_table, step
from serving import collector
from storage.settings import Settings, prepare_home

SEED = 7
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CUSTOMERS = 200
STAGES = ("narrow", "plan", "take", "finish")
NUMBERS, TEXTS, TRUTHS = 28, 8, 4  # features of each kind: 40
_WORDS = ("amber", "birch", "coral", "dune", "ember", "fjord", "grove", "heath")
_PER: tuple[CountedPer, ...] = ("any", "channel", "group", "goal", "action")
_KEY = b"bench funnel's own key"


class Size(NamedTuple):
    """How large the generated catalogue and the customers' histories are."""

    actions: int = 50
    rules: int = 200
    caps: int = 20
    contacts: int = 20
    slots: int = 3


class FunnelCost(NamedTuple):
    """Microseconds per decision, of wall time and of CPU; `stages` are medians of wall time.

    `candidates` is how many actions reached arbitration, on average. `rule_library` is the median of
    building the rules' context and executing every distinct rule once, with nothing of ours, in turns
    with the decisions; `ratio` is the median round's.
    """

    size: Size
    candidates: float
    p50: float
    p99: float
    cpu_p50: float
    cpu_p99: float
    stages: dict[str, float]
    rule_library: float
    ratio: float


class Work(NamedTuple):
    """Decisions to be made: each a case, what is known, and the propensity of every action."""

    catalog: Catalog
    decisions: list[tuple[Case, Facts]]
    propensities: dict[str, float]


class Growth(NamedTuple):
    """Cost against one size; `per_doubling` is the factor by which the cost grew for each doubling since the last."""

    what: str
    rows: list[tuple[int, float, float | None]]


BASE = Size()
LARGE = Size(actions=500, rules=1_000)
GROWTH: dict[str, tuple[int, ...]] = {
    "actions": (10, 20, 50, 100, 200, 500),
    "rules": (50, 100, 200, 500, 1_000),
    "contacts": (0, 10, 20, 50, 100, 200),
}


def run_funnel(settings: Settings, *, rounds: int, decisions: int, as_json: bool) -> None:
    """Measure, keep the figures under the state directory's `bench`, and print."""
    prepare_home(settings)
    with step("bench funnel") as progress:
        try:
            costs = []
            for size in (BASE, LARGE):
                progress(f"{size.actions} actions, {size.rules} rules")
                costs.append(cost_of(size, rounds=rounds, decisions=decisions))
            growth = []
            for what, sizes in GROWTH.items():
                progress(f"growth with {what}")
                growth.append(growth_of(what, sizes, rounds=rounds, decisions=decisions))
            progress("hot state in Redis")
            hot_state = hot_state_cost(settings, pairs=4 * decisions, rounds=rounds)
        finally:
            collector.unsettle()
        path = settings.bench_dir / "funnel.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(as_document(costs, growth, hot_state)), indent=2))
        progress.result = str(path)
    if as_json:
        print_json(as_document(costs, growth, hot_state))
        return
    for cost in costs:
        _print_cost(cost)
    for one in growth:
        rows = [(f"{size:,}", cost, "" if factor is None else f"{factor:.2f}") for size, cost, factor in one.rows]
        print_table(f"CPU p50 against the number of {one.what}", (one.what, "us", "x per doubling"), rows)
    _print_hot_state(hot_state)


def cost_of(size: Size, *, rounds: int, decisions: int) -> FunnelCost:
    """What a decision of this size costs, over rounds of so many decisions."""
    work = generated(size)
    walls: list[int] = []
    laps: dict[str, list[int]] = {stage: [] for stage in STAGES}
    cpu: list[int] = []
    candidates: list[int] = []
    libraries: list[int] = []
    ratios: list[float] = []
    programs = _programs(work)
    for number in range(rounds + 1):
        collector.settle()
        for index in range(decisions):
            began = time.thread_time_ns()
            times, count = _decide(work, index % CUSTOMERS)
            spent = time.thread_time_ns() - began
            if number:  # the first round warms up
                cpu.append(spent)
                candidates.append(count)
                walls.append(times[-1] - times[0])
                for stage, begin, end in zip(STAGES, times, times[1:], strict=False):
                    laps[stage].append(end - begin)
        library = _rule_library(work, programs)
        if number:
            libraries += library
            ratios.append(statistics.median(walls[-decisions:]) / statistics.median(library))
    return FunnelCost(
        size=size,
        candidates=statistics.fmean(candidates),
        p50=_percentile(walls, 50),
        p99=_percentile(walls, 99),
        cpu_p50=_percentile(cpu, 50),
        cpu_p99=_percentile(cpu, 99),
        stages={stage: _percentile(times, 50) for stage, times in laps.items()},
        rule_library=_percentile(libraries, 50),
        ratio=statistics.median(ratios),
    )


def growth_of(what: str, sizes: Sequence[int], *, rounds: int, decisions: int) -> Growth:
    """The cost with one size changed and the others as in `BASE`; more actions bring their rules along."""
    rows: list[tuple[int, float, float | None]] = []
    for size in sizes:
        changed = BASE._replace(**{what: size})
        if what == "actions":
            changed = changed._replace(rules=4 * size)
        cost = cost_of(changed, rounds=rounds, decisions=max(50, decisions * BASE.actions // changed.actions)).cpu_p50
        factor = None
        if rows and rows[-1][0]:
            factor = (cost / rows[-1][1]) ** (1 / float(np.log2(size / rows[-1][0])))
        rows.append((size, cost, factor))
    return Growth(what, rows)


def generated(size: Size) -> Work:
    """A catalogue of this size and customers to decide for, the same at every call."""
    rng = random.Random(SEED)  # noqa: S311 (nothing secret)
    catalog = Catalog(_content(size, rng), version="sha256:bench")
    decisions = []
    for number in range(CUSTOMERS):
        request = DecisionRequest(customer_id=f"c-{number}", placement="hero", context={"device": "mobile"})
        case = case_of(catalog, request, decision_id=f"d-{number}", draw_id=f"d-{number}", now=NOW)
        contacts = tuple(sorted((_contact(size, rng) for _ in range(size.contacts)), key=lambda contact: contact.at))
        decisions.append((case, Facts(features=_features(rng), hot=HotProfile(contacts=contacts, version=1))))
    return Work(catalog, decisions, {action_id: rng.uniform(0.01, 0.1) for action_id in catalog.actions})


def as_document(costs: Sequence[FunnelCost], growth: Sequence[Growth], hot_state: HotStateCost | str) -> dict[str, Any]:
    """The result for machines."""
    return {
        "costs": [cost._asdict() | {"size": cost.size._asdict()} for cost in costs],
        "growth": {
            one.what: [{one.what: size, "cpu_p50": cost, "per_doubling": factor} for size, cost, factor in one.rows]
            for one in growth
        },
        "hot_state": hot_state if isinstance(hot_state, str) else hot_state._asdict(),
    }


def _decide(work: Work, index: int) -> tuple[tuple[int, ...], int]:
    """The instants before, between and after the stages, and how many candidates there were."""
    case, facts = work.decisions[index]
    clock = time.perf_counter_ns
    began = clock()
    narrowed = funnel.narrow(case, facts)
    at_narrowed = clock()
    scores = Scores(_scores(work, narrowed))  # between the stages: not the funnel's
    scored = clock()
    planned = funnel.plan(case, narrowed, scores, key=_KEY)
    at_planned = clock()
    reservation = funnel.reservation(case, facts, planned, digest="")
    filled = take(reservation, reservation.seen)
    at_taken = clock()
    funnel.finish(case, planned, filled)
    at_finished = clock()
    between = scored - at_narrowed
    return (
        began,
        at_narrowed,
        at_planned - between,
        at_taken - between,
        at_finished - between,
    ), len(planned.candidates)


def _scores(work: Work, narrowed: funnel.Narrowed) -> NDArray[np.float32]:
    return np.array([work.propensities[e.proposal.action.id] for e in narrowed.eligible], dtype=np.float32)


def _programs(work: Work) -> list[Any]:
    """Every distinct rule, compiled by the rule library."""
    sources = {
        source
        for action in work.catalog.content.actions
        for source in (
            action.eligibility,
            action.applicability,
            action.suitability,
            *(weight.when for weight in action.context_weights),
        )
        if source != "true"
    }
    return [cel.compile(source) for source in sorted(sources)]


def _rule_library(work: Work, programs: Sequence[Any]) -> list[int]:
    """Nanoseconds of the context and every distinct rule, for one customer after another."""
    times = []
    for case, facts in work.decisions:
        began = time.perf_counter_ns()
        context = cel.Context(
            variables={
                "customer": dict(facts.features),
                "account": {},
                "context": dict(case.request.context),
                "now": case.now,
            }
        )
        for program in programs:
            program.execute(context)
        times.append(time.perf_counter_ns() - began)
    return times


def _content(size: Size, rng: random.Random) -> Content:
    groups = tuple(f"group_{number}" for number in range(max(2, size.actions // 5)))
    goals = ("win", "keep", "serve")
    rules = iter(_rules(size, rng))
    by_action: list[list[str]] = [[] for _ in range(size.actions)]
    for number, rule in enumerate(rules):
        by_action[number % size.actions].append(rule)
    actions = [
        Action(
            id=f"action_{number}",
            name=f"Action {number}",
            group=rng.choice(groups),
            goal=rng.choice(goals),
            status="live",
            value=rng.uniform(5, 50),
            **dict(zip(("eligibility", "applicability", "suitability"), own, strict=False)),  # type: ignore[arg-type]
            context_weights=tuple(ContextWeight(when, 1.25) for when in own[3:]),
            treatments=(Treatment(f"action_{number}_web", "web", {"headline": f"Headline {number}"}),),
        )
        for number, own in enumerate(by_action)
    ]
    nothing = Action(id=NO_ACTION, name="Nothing", group=groups[0], goal=goals[0], status="live", value=1.0)
    caps = []
    for number in range(size.caps):
        per = _PER[number % len(_PER)]
        only = {"group": rng.choice(groups), "action": f"action_{rng.randrange(size.actions)}"}.get(per)
        within = timedelta(days=rng.choice((1, 7, 30)))
        limit = rng.choice((1, 2)) if only else max(8, size.contacts * 2)
        caps.append(ContactPolicy(f"cap_{number}", limit=limit, within=within, per=per, only=only))
    placement = Placement(
        id="hero",
        channel="web",
        slots=size.slots,
        priority_scale=5.0,
        exploration=SquareCB(gamma=20.0),
        reward={"accept": 1.0},
    )
    return Content(
        domain="bench",
        currency="EUR",
        continuity=timedelta(hours=4),
        personalisation="default",
        holdout=Holdout(share=0.0),
        groups=groups,
        goals=goals,
        channels=(Channel("web"),),
        placements=(placement,),
        actions=(*actions, nothing),
        contact_policies=tuple(caps),
    )


def _rules(size: Size, rng: random.Random) -> list[str]:
    """So many rules, no two alike; each holds for about nineteen customers in twenty."""
    rules: dict[str, None] = {}
    while len(rules) < size.rules:
        number, text, truth = rng.randrange(NUMBERS), rng.randrange(TEXTS), rng.randrange(TRUTHS)
        threshold = f"{rng.uniform(0.0, 0.1):.6f}"
        rules[
            rng.choice(
                (
                    f"customer.number_{number} >= {threshold}",
                    f"customer.number_{number} > {threshold} || customer.truth_{truth}",
                    f"customer.text_{text} != '{rng.choice(_WORDS)}' || customer.number_{number} > {threshold}",
                )
            )
        ] = None
    return list(rules)


def _features(rng: random.Random) -> dict[str, Value]:
    return {
        **{f"number_{number}": rng.random() for number in range(NUMBERS)},
        **{f"text_{number}": rng.choice(_WORDS) for number in range(TEXTS)},
        **{f"truth_{number}": rng.random() < 0.5 for number in range(TRUTHS)},
    }


def _contact(size: Size, rng: random.Random) -> Contact:
    """Of the last 30 days; none so late that it goes on."""
    action = rng.randrange(size.actions)
    return Contact(
        action_id=f"action_{action}",
        group=f"group_{action % max(2, size.actions // 5)}",
        channel="web",
        at=NOW - timedelta(hours=rng.uniform(5, 720)),
        goal="win",
        placement="hero",
        decision_id=f"earlier-{action}",
    )


def _percentile(nanoseconds: Sequence[int], percent: float) -> float:
    return round(float(np.percentile(nanoseconds, percent)) / 1e3, 1)


def _print_cost(cost: FunnelCost) -> None:
    size = cost.size
    print_table(
        f"Microseconds a decision on one core: {size.actions} actions, {size.rules} rules, {size.caps} caps,"
        f" {size.contacts} contacts, {size.slots} slots; {cost.candidates:.0f} candidates",
        ("stage", "us"),
        [
            *((f"{stage}, p50", microseconds) for stage, microseconds in cost.stages.items()),
            ("all, p50", cost.p50),
            ("all, p99", cost.p99),
            ("all, CPU p50", cost.cpu_p50),
            ("all, CPU p99", cost.cpu_p99),
            (f"the rule library alone: context and {size.rules} rules", cost.rule_library),
        ],
    )
    out.print(f"  {cost.ratio:.2f} x the rule library alone, in turns")


def _print_hot_state(cost: HotStateCost | str) -> None:
    if isinstance(cost, str):
        out.print(f"Hot state in Redis was not measured: {cost}")
        return
    print_table(
        f"Hot state in Redis: microseconds of this process a pair of read and reserve, {cost.concurrent} concurrent,"
        f" {cost.contacts:.0f} contacts",
        ("part", "us"),
        [
            ("CPU of the pair: median round", cost.pair),
            ("the quietest round", cost.least),
            ("of which `take`", cost.take),
            ("two calls that ask for nothing", cost.empty),
            ("wall time, all callers together", cost.wall),
        ],
    )
