"""Where a decision's microseconds go: CPU by stage, in process, one decision at a time."""

import asyncio
import gc
import statistics
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from decisioning.request import DecisionRequest
from nextmove.sandbox import Sandbox
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


def bench_decide(
    settings: Settings, *, placement: str, customers: list[str], decisions: int, rounds: int
) -> DecideBench:
    """Decide `decisions` times in each of `rounds` rounds, after one round to warm up."""
    sandbox = Sandbox(settings, settings.bench_dir / "decide")
    asked = [
        msgspec.convert({"customer_id": customers[i % len(customers)], "placement": placement}, DecisionRequest)
        for i in range(decisions)
    ]
    try:
        return asyncio.run(_measure(sandbox, asked, rounds))
    finally:
        sandbox.close()


async def _measure(sandbox: Sandbox, asked: list[DecisionRequest], rounds: int) -> DecideBench:
    engine = sandbox.engine
    by_stage: dict[str, list[float]] = {}
    deciding, others, walls, candidates = [], [], [], []
    for number in range(rounds + 1):
        engine.timers.reset()
        gc.collect()
        gc.freeze()
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


def as_json(result: DecideBench) -> dict[str, Any]:
    """The result for machines."""
    return {
        **result._asdict(),
        "stages": {cost.stage: round(cost.microseconds, 1) for cost in result.stages},
    }
