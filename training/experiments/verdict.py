"""The plan applied to what is known: six words, of which exactly one holds, each with its sentence.

In this order, so that what makes the rest worthless is said first:

| word | when |
|---|---|
| `stop_mismatch` | units were not split as planned |
| `stop_guardrail` | a guardrail is surely worse under a variant |
| `win` | a variant is surely better than the control |
| `lose` | every variant is surely worse |
| `ship_no_harm` | the planned length is over, and a variant is surely not worse by the smallest change that matters |
| `go_on` | none of these |

Every "surely" is of intervals that hold at all looks together, so the plan may be applied every day.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from training.experiments.reading import Reading

Word = Literal["stop_mismatch", "stop_guardrail", "win", "lose", "ship_no_harm", "go_on"]
# The chance, over the whole experiment, of an alarm without a mismatch.
MISMATCH_LEVEL = 0.01


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """How units were split, beside how they should have been; `p_value` is anytime-valid."""

    counts: dict[str, int]
    shares: dict[str, float]
    p_value: float

    @property
    def is_one(self) -> bool:
        """Whether chance does not explain it."""
        return self.p_value < MISMATCH_LEVEL


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was settled before.

    Attributes:
        variants: Those beside the control.
        minimum_effect: The smallest relative change that matters.
        ends: When the planned length is over.
    """

    control: str
    variants: tuple[str, ...]
    minimum_effect: float | None
    ends: datetime | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan says now; `variant` is whom it speaks of, where that is one."""

    word: Word
    sentence: str
    variant: str | None = None

    @property
    def stops(self) -> bool:
        """Whether the experiment should end."""
        return self.word != "go_on"


def verdict(
    plan: Plan, primary: Sequence[Reading], guardrails: Sequence[Reading], mismatch: Mismatch, *, now: datetime
) -> Verdict:
    """What the plan says of these readings; a variant of which too little is known has none."""
    if mismatch.is_one:
        return Verdict(word="stop_mismatch", sentence=_of_mismatch(mismatch))
    for each in guardrails:
        if each.is_worse:
            said = f"stop: {each.metric} is worse with {each.variant}, {_by(each)}"
            return Verdict(word="stop_guardrail", sentence=said, variant=each.variant)
    if winners := [each for each in primary if each.is_better]:
        best = max(winners, key=_gain)
        said = f"choose {best.variant}: {best.metric} is better than with {plan.control}, {_by(best)}"
        return Verdict(word="win", sentence=said, variant=best.variant)
    if len(primary) == len(plan.variants) and all(each.is_worse for each in primary):
        best = max(primary, key=_gain)
        which = (
            f"with {best.variant}" if len(primary) == 1 else f"with every other variant, with {best.variant} at best"
        )
        said = f"keep {plan.control}: {best.metric} is worse {which}, {_by(best)}"
        return Verdict(word="lose", sentence=said, variant=plan.control)
    is_over = plan.ends is not None and now >= plan.ends
    margin = plan.minimum_effect
    harmless = [each for each in primary if margin is not None and each.does_no_harm(margin)]
    if is_over and harmless and margin is not None:
        best = max(harmless, key=_gain)
        said = (
            f"{best.variant} may be chosen: it does no harm to {best.metric}, {_by(best)}, so not worse by the"
            f" {margin:.1%} that matter"
        )
        return Verdict(word="ship_no_harm", sentence=said, variant=best.variant)
    return Verdict(word="go_on", sentence=_of_going_on(plan, primary, is_over=is_over))


def _of_mismatch(mismatch: Mismatch) -> str:
    met = ", ".join(f"{count:,} {name}" for name, count in mismatch.counts.items())
    meant = ", ".join(f"{share:.1%} {name}" for name, share in mismatch.shares.items())
    return (
        f"stop: {met} were met where {meant} were meant (p = {mismatch.p_value:.1g}); units of a variant get lost on"
        " the way, so no figure of this experiment can be trusted until it is known which"
    )


def _of_going_on(plan: Plan, primary: Sequence[Reading], *, is_over: bool) -> str:
    if not primary:
        return "go on: too few units have been met to say anything"
    best = max(primary, key=_gain)
    until = "" if plan.ends is None else f" until {plan.ends:%Y-%m-%d}"
    end = "its planned length is over, and looking on stays valid" if is_over else f"it is planned{until}"
    return f"go on: {best.metric} with {best.variant} cannot be told from {plan.control} yet, {_by(best)}; {end}"


def _gain(reading: Reading) -> float:
    return reading.difference if reading.better == "higher" else -reading.difference


def _by(reading: Reading) -> str:
    if reading.relative is None or reading.relative_low is None or reading.relative_high is None:
        return f"by {reading.difference:+.4g} (between {reading.low:+.4g} and {reading.high:+.4g})"
    return f"by {reading.relative:+.1%} (between {reading.relative_low:+.1%} and {reading.relative_high:+.1%})"
