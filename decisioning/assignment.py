"""Assignments: which variant of each experiment a unit is in, before anything is shown.

A salted hash, so a unit stays in its variant without anything being stored, and experiments with
different salts are independent of each other.
"""

from collections.abc import Iterable

import mmh3

from decisioning.content import Experiment, Holdout, variant_ends
from decisioning.content_types import BUCKETS
from decisioning.record import Assignment


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket, 0 to 9,999: MurmurHash3 (x86, 32 bit, seed 0) of `salt:unit`.

    >>> bucket("hero_copy", "c-1")
    6735
    """
    return mmh3.hash(f"{salt}:{unit}", signed=False) % BUCKETS


def assign(experiment: Experiment, unit: str) -> Assignment:
    """The unit's variant; `probability` is the share of buckets that the variant has.

    >>> from decisioning.content import Variant
    >>> copy = Experiment(id="hero_copy", variants=(Variant("a", 1.0), Variant("b", 1.0)))
    >>> assign(copy, "c-1").variant
    'b'
    """
    place = bucket(experiment.salt or experiment.id, unit)
    ends = variant_ends(experiment)
    number = next(number for number, end in enumerate(ends) if place < end)
    variant = experiment.variants[number]
    begin = ends[number - 1] if number else 0
    return Assignment(
        experiment=experiment.id,
        variant=variant.id,
        probability=(ends[number] - begin) / BUCKETS,
        payload=variant.payload,
    )


def assignments(experiments: Iterable[Experiment], unit: str, placement_id: str) -> tuple[Assignment, ...]:
    """The unit's variants of the experiments that run on this placement (an empty list: on all)."""
    return tuple(
        assign(experiment, unit)
        for experiment in experiments
        if experiment.status == "running" and (not experiment.placements or placement_id in experiment.placements)
    )


def is_held_out(holdout: Holdout, unit: str) -> bool:
    """Whether the unit is in the universal control: always the same units, whatever experiments run.

    >>> is_held_out(Holdout(share=1.0), "c-1"), is_held_out(Holdout(share=0.0), "c-1")
    (True, False)
    """
    return bucket(holdout.salt, unit) < round(holdout.share * BUCKETS)
