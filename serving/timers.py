"""Where a decision's time goes: CPU nanoseconds of this thread, by stage, always on."""

import time
from collections import defaultdict


class StageTimers:
    """Sums per stage over decisions. Two clock reads a stage, about 0.2 microseconds each.

    Stages do not overlap: `lap` charges all since the previous lap to one stage. Laps of decisions
    that wait for each other on one event loop may charge one another; `nextmove bench decide` runs
    them one by one.
    """

    def __init__(self) -> None:
        self.nanoseconds: dict[str, int] = defaultdict(int)
        self.decisions = 0

    def start(self) -> "Laps":
        """Begin one decision."""
        self.decisions += 1
        return Laps(self)

    def reset(self) -> None:
        """Forget everything measured so far."""
        self.nanoseconds.clear()
        self.decisions = 0

    def microseconds(self) -> dict[str, float]:
        """Mean CPU microseconds per decision, by stage, in order of the funnel."""
        return {stage: total / 1e3 / max(self.decisions, 1) for stage, total in self.nanoseconds.items()}


class Laps:
    """The stages of one decision."""

    __slots__ = ("_since", "_timers")

    def __init__(self, timers: StageTimers) -> None:
        self._timers = timers
        self._since = time.thread_time_ns()

    def lap(self, stage: str) -> None:
        """Charge the time since the previous lap to `stage`."""
        now = time.thread_time_ns()
        self._timers.nanoseconds[stage] += now - self._since
        self._since = now
