"""Assignments: the variants of whoever is asked about, before anything is shown; see `trial` for how they fall."""

from collections.abc import Iterable
from typing import NamedTuple

from decisioning.record import FORCED, SPLIT, Assignment
from decisioning.rules import RuleFailure, RuleScope
from decisioning.trial import Trial


class Units(NamedTuple):
    """What the caller is to experiments: the person, the person's account and the session, where these are known."""

    customer: str
    account: str | None = None
    session: str | None = None


def assignments(trials: Iterable[Trial], units: Units, scope: RuleScope) -> tuple[Assignment, ...]:
    """The variants of these experiments, of those in which the units take part.

    Who is not eligible takes no part, nor does anyone for whom the rule errs. Testers always do.

    >>> from datetime import datetime
    >>> from decisioning.experiment_content import Experiment, Variant
    >>> copy = Trial(Experiment(id="hero_copy", variants=(Variant(id="a"), Variant(id="b"))))
    >>> [each.variant for each in assignments([copy], Units("c-1"), RuleScope(now=datetime(2026, 1, 1)))]
    ['b']
    """
    found = []
    for trial in trials:
        unit: str | None = getattr(units, trial.experiment.unit)
        lot = trial.lot(unit) if unit is not None else None
        if lot is None or not (lot.forced or _is_eligible(trial, scope)):
            continue
        found.append(
            Assignment(
                experiment=trial.experiment.id,
                variant=lot.variant.id,
                probability=lot.probability,
                reason=FORCED if lot.forced else SPLIT,
                payload=lot.variant.payload,
                version=trial.experiment.version,
                unit=unit,
            )
        )
    return tuple(found)


def _is_eligible(trial: Trial, scope: RuleScope) -> bool:
    try:
        return trial.eligible is None or trial.eligible.holds(scope)
    except RuleFailure:
        return False
