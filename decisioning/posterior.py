"""The online posterior: how far the log-odds of an action's propensity have moved since its model was trained.

A model is as old as its last training. What customers did since is held against what it said, per action and
channel: a shift of the log-odds, and how sure that is. It belongs to one bundle and to the variants of a
customer's experiments, so that no variant learns from another.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest
from decisioning.content_types import NO_ACTION
from decisioning.scores import Scores

Floats = NDArray[np.float64]


class Belief(NamedTuple):
    """What is added to the log-odds, and how far that may be off, as a standard deviation."""

    shift: float
    sd: float


class Believed(NamedTuple):
    """The belief on one action in one channel, among customers with these variants."""

    variants: str
    channel: str
    action_id: str
    belief: Belief


class Fitted(msgspec.Struct, frozen=True):
    """What is believed on all actions at an instant.

    Attributes:
        bundle_sha256: Of whose scores.
        version: A name of this state; records keep it.
    """

    bundle_sha256: str
    version: str
    beliefs: tuple[Believed, ...]


class Posterior:
    """What the engine corrects scores by: the priors of a manifest, and what was learnt since, if anything.

    >>> from datetime import UTC, datetime
    >>> fitted = Fitted("sha", "v1", (Believed("", "web", "card", Belief(0.5, 0.1)),))
    >>> Posterior({"loan": 0.3}, 1.0, fitted).beliefs(["card", "loan", "new"], variants="", channel="web")
    [Belief(shift=0.5, sd=0.1), Belief(shift=0.0, sd=0.3), Belief(shift=0.0, sd=1.0)]
    """

    def __init__(self, action_sd: dict[str, float], other_sd: float, fitted: Fitted | None = None) -> None:
        """`other_sd` is that of actions which `action_sd` does not name."""
        self.version = fitted.version if fitted is not None else None
        self._unmoved = Belief(0.0, other_sd)
        self._priors = {action_id: Belief(0.0, sd) for action_id, sd in action_sd.items()}
        self._moved: dict[tuple[str, str], dict[str, Belief]] = {}
        for variants, channel, action_id, belief in fitted.beliefs if fitted is not None else ():
            self._moved.setdefault((variants, channel), {})[action_id] = belief

    @classmethod
    def of(cls, manifest: Manifest, fitted: Fitted | None = None) -> "Posterior":
        """What is believed of this model's scores."""
        return cls(manifest.action_sd, unnamed_sd(manifest), fitted)

    def beliefs(self, action_ids: list[str], *, variants: str, channel: str) -> list[Belief]:
        """On these actions."""
        priors, unmoved = self._priors, self._unmoved
        moved = self._moved.get((variants, channel))
        if moved is None:
            return [priors.get(action_id, unmoved) for action_id in action_ids]
        return [moved.get(action_id) or priors.get(action_id, unmoved) for action_id in action_ids]

    def corrected(self, scores: Scores, action_ids: list[str], *, variants: str, channel: str) -> Scores:
        """The scores of these actions with all that is believed of them.

        Doubt of the model's own is of other things than the shift, so the variances add up.
        """
        if scores.baseline is not None:
            action_ids = [*action_ids, NO_ACTION]
        believed = self.beliefs(action_ids, variants=variants, channel=channel)
        shifts, sds = (np.array(each) for each in zip(*believed, strict=True))
        if scores.baseline is not None:
            own = Scores(np.array([scores.baseline]), shifts=shifts[-1:])
            shifts, sds = shifts[:-1], sds[:-1]
            scores = scores._replace(baseline=float(own.corrected[0]))
        if scores.sds is not None:
            sds = np.hypot(scores.sds, sds)
        return scores._replace(shifts=None if self.version is None else shifts, sds=sds, posterior=self.version)


def unnamed_sd(manifest: Manifest) -> float:
    """How far the log-odds of an action that the manifest does not name may be off.

    A graph that states its own doubt states that of a new action, too.
    """
    return 0.0 if "sd" in manifest.outputs else manifest.new_action_sd
