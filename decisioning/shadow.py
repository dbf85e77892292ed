"""A challenger in its shadow: what it would have done with a live decision that another model makes."""

from collections.abc import Sequence

from decisioning.case import UNSCORED, Case
from decisioning.decision import Choice, ranked
from decisioning.record import ModelVersion, Shadow
from decisioning.scores import Scores
from decisioning.slots import FilledSlot, first_slot


def casts_shadow(case: Case, choice: Choice) -> bool:
    """Whether a challenger has anything to say here: candidates were scored, and the record will be kept."""
    return case.request.mode == "live" and choice.reason not in UNSCORED and bool(choice.planned.candidates)


def shadow_of(
    case: Case, choice: Choice, scores: Scores, filled: Sequence[FilledSlot], *, model: ModelVersion
) -> Shadow:
    """What the placement's policy would have made of the challenger's `scores` of the same candidates.

    Its probabilities are over what the first slot could have got when it was filled: those by which the
    decision's own draw can be weighed.

    Raises:
        ArithmeticError: A score is not a finite number.
    """
    spread = ranked(case, choice.narrowed, scores).spread
    available = filled[0].available if filled else range(len(spread.weights))
    return Shadow(
        model=model,
        propensities=tuple(scores.corrected.tolist()),
        probabilities=tuple(first_slot(spread, available).tolist()),
    )
