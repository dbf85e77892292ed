"""Who takes part in an experiment and with which variant: salted hashes, the same in any language.

A unit stays in its variant without anything being stored, and what has different salts is independent of
each other. It takes part when its bucket

- of the layer lies in the experiment's slice (so experiments of one layer share no unit),
- of `<salt>:traffic` lies below the share that is let in (so a larger share only adds units),

and gets the variant in whose part its bucket of `<salt>` lies. `tests/golden/assignment.json` has examples.
"""

from typing import NamedTuple

import mmh3

from decisioning.content_types import BUCKETS
from decisioning.experiment_content import Experiment, GroupHoldout, Holdout, Layer, Variant, variant_ends
from decisioning.rules import Rule


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket, 0 to 9,999: MurmurHash3 (x86, 32 bit, seed 0) of `salt:unit` in UTF-8.

    >>> bucket("hero_copy", "c-1")
    6735
    """
    return mmh3.hash(f"{salt}:{unit}", signed=False) % BUCKETS


class Lot(NamedTuple):
    """A unit's variant, with the share of those who take part that get it; a tester's is certain."""

    variant: Variant
    probability: float
    forced: bool = False


class Trial:
    """A running experiment, with what is the same for every unit worked out.

    Attributes:
        eligible: The compiled rule; None where everyone is.
        layer_salt: None without a layer. The buckets from `begin` to `end` of it are its own.
        traffic: So many of the buckets of `<salt>:traffic` take part.
        ends: The bucket at which each variant ends.
    """

    __slots__ = ("begin", "eligible", "end", "ends", "experiment", "layer_salt", "salt", "traffic")

    def __init__(self, experiment: Experiment, layer: Layer | None = None, eligible: Rule | None = None) -> None:
        self.experiment = experiment
        self.eligible = eligible
        self.layer_salt = None if layer is None else layer.salted
        self.begin, self.end = (round(share * BUCKETS) for share in experiment.slice)
        self.traffic = round(experiment.traffic * BUCKETS)
        self.salt = experiment.salted
        self.ends = variant_ends(experiment)

    def takes(self, unit: str) -> bool:
        """Whether this unit is one of those that take part, as far as hashes say."""
        if self.layer_salt is not None and not self.begin <= bucket(self.layer_salt, unit) < self.end:
            return False
        return self.traffic == BUCKETS or bucket(f"{self.salt}:traffic", unit) < self.traffic

    def lot(self, unit: str) -> Lot | None:
        """The unit's variant; None for one that takes no part.

        >>> copy = Experiment(id="hero_copy", variants=(Variant(id="a"), Variant(id="b")), testers={"ann": "a"})
        >>> Trial(copy).lot("c-1").variant.id, Trial(copy).lot("ann").forced
        ('b', True)
        """
        forced = self.experiment.testers.get(unit)
        if forced is not None:
            return Lot(self.experiment.variant(forced), 1.0, forced=True)
        if not self.takes(unit):
            return None
        place = bucket(self.salt, unit)
        number = next(number for number, end in enumerate(self.ends) if place < end)
        begin = self.ends[number - 1] if number else 0
        return Lot(self.experiment.variants[number], (self.ends[number] - begin) / BUCKETS)


def is_held_out(holdout: Holdout | GroupHoldout, unit: str) -> bool:
    """Whether the unit is in a control: always the same units, whatever experiments run.

    >>> is_held_out(Holdout(share=1.0), "c-1"), is_held_out(Holdout(share=0.0), "c-1")
    (True, False)
    """
    salt = holdout.salted if isinstance(holdout, GroupHoldout) else holdout.salt
    return bucket(salt, unit) < round(holdout.share * BUCKETS)
