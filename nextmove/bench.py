"""Where a decision's microseconds go: CPU by stage, in process, one decision at a time."""

import asyncio
import statistics
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from decisioning.request import DecisionRequest
from nextmove import steps
from nextmove.console import out, print_json, print_table, step
from nextmove.sandbox import Sandbox
from serving import collector
from storage.settings import Settings


class StageCost(NamedTuple):
    """Median over rounds of a stage's mean CPU microseconds per decision."""

    stage: str
    microseconds: float


class DecideBench(NamedTuple):
    """CPU per decision by stage, of the deciding thread and of the ledger's writer."""

    decisions: int
    rounds: int
    candidates: float
    stages: list[StageCost]
    deciding_thread: float
    other_threads: float
    wall_p50: float
    wall_p99: float


def run_decide(
    settings: Settings, *, placement: str | None, decisions: int, rounds: int, shadow: bool, as_json: bool
) -> None:
    """Measure and print; `shadow`: the same model scores a second time, as a challenger.

    Raises:
        SetupError: No model is promoted, or nobody is ingested.
    """
    sandbox = Sandbox(settings, settings.bench_dir / "decide")
    try:
        sandbox.engine.shadow = sandbox.engine.scorer if shadow else None
        asked = placement or steps.example_placement(sandbox.catalog).id
        customers = steps.example_customers(settings, 1_000)
        requests = [
            DecisionRequest(customer_id=customers[index % len(customers)], placement=asked)
            for index in range(decisions)
        ]
        with step("bench decide"):
            result = asyncio.run(_measure(sandbox, requests, rounds))
    finally:
        sandbox.close()
        collector.unsettle()
    if as_json:
        print_json(as_document(result))
        return
    total = sum(cost.microseconds for cost in result.stages)
    rows = [(cost.stage, cost.microseconds, 100 * cost.microseconds / total) for cost in result.stages]
    print_table(
        f"CPU microseconds a decision at '{asked}', {result.candidates:.0f} candidates; medians of {rounds} rounds of"
        f" {decisions:,}",
        ("stage", "us", "%"),
        [
            *rows,
            ("sum of stages", total, 100.0),
            ("deciding thread", result.deciding_thread, 100 * result.deciding_thread / total),
            ("other threads (ledger)", result.other_threads, 100 * result.other_threads / total),
        ],
    )
    out.print(
        f"wall time one by one, each with its own commit: p50 {result.wall_p50:,.0f} us, p99 {result.wall_p99:,.0f} us"
    )


async def _measure(sandbox: Sandbox, asked: list[DecisionRequest], rounds: int) -> DecideBench:
    engine = sandbox.engine
    by_stage: dict[str, list[float]] = {}
    deciding, others, walls, candidates = [], [], [], []
    for number in range(rounds + 1):
        engine.timers.reset()
        collector.settle()
        process, thread = time.process_time_ns(), time.thread_time_ns()
        for request in asked:
            began = time.perf_counter_ns()
            record = await engine.decide(request, now=datetime.now(UTC))
            if number:
                walls.append((time.perf_counter_ns() - began) / 1e3)
                candidates.append(len(record.candidates))
        if not number:
            continue
        own = (time.thread_time_ns() - thread) / 1e3 / len(asked)
        deciding.append(own)
        others.append((time.process_time_ns() - process) / 1e3 / len(asked) - own)
        for stage, microseconds in engine.timers.microseconds().items():
            by_stage.setdefault(stage, []).append(microseconds)
    walls.sort()
    return DecideBench(
        decisions=len(asked),
        rounds=rounds,
        candidates=statistics.fmean(candidates),
        stages=[StageCost(stage, statistics.median(values)) for stage, values in by_stage.items()],
        deciding_thread=statistics.median(deciding),
        other_threads=statistics.median(others),
        wall_p50=walls[len(walls) // 2],
        wall_p99=walls[len(walls) * 99 // 100],
    )


def as_document(result: DecideBench) -> dict[str, Any]:
    """The result for machines."""
    return {
        **result._asdict(),
        "stages": {cost.stage: round(cost.microseconds, 1) for cost in result.stages},
    }
