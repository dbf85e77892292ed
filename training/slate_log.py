"""What policies would have earned on a log of slates: several rows a decision, one a slot.

A row's logged chance is of its action given the slots before, so the chance of a slate up to a slot is a product.
A policy chooses slot by slot, too, among what does not stand in the slate yet; where it follows the log, what the
log chose before is what it would have had before.
"""

from collections.abc import Sequence

import numpy as np

from decisioning.errors import DataError
from decisioning.evaluation import Floats, Terms
from decisioning.slate_evaluation import (
    SlateLog,
    cascade_doubly_robust,
    slate_inverse_propensity,
    slate_self_normalised,
)
from training.logged_bandit import LoggedBandit, slates
from training.logged_policies import ExpectedRewards


def slate_rewards(bandit: LoggedBandit) -> Floats:
    """What each slate earned, `(n_slates, n_slots)`."""
    found: Floats = slates(bandit, bandit.log.reward)
    return found


def slate_weights(bandit: LoggedBandit, target: Floats) -> Floats:
    """How much likelier the target, `(n, n_actions)`, makes the slate up to each slot, `(n_slates, n_slots)`."""
    return _up_to_each_slot(bandit, target).weights


def estimated_slates(
    bandit: LoggedBandit, target: Floats, expected: ExpectedRewards, names: Sequence[str]
) -> dict[str, Terms]:
    """The terms of each estimator; without those that divide by weights where the target never agrees with the log."""
    before = _up_to_each_slot(bandit, target)
    n_slots = before.reward.shape[1]
    whole = SlateLog(
        before.reward,
        np.repeat(before.probability[:, -1:], n_slots, axis=1),
        np.repeat(before.target[:, -1:], n_slots, axis=1),
    )
    found: dict[str, Terms] = {}
    for name in names:
        if name == "cascade_dr":
            found[name] = cascade_doubly_robust(
                before,
                action=slates(bandit, bandit.log.action),
                q_hat=slates(bandit, expected.of(_weighed_rest(bandit, before))),
                target_choice=slates(bandit, target),
            )
            continue
        log = whole if name.endswith("sips") else before
        if not name.startswith("sn"):
            found[name] = slate_inverse_propensity(log)
        elif log.weights.sum(axis=0).all():
            found[name] = slate_self_normalised(log)
    return found


def _up_to_each_slot(bandit: LoggedBandit, target: Floats) -> SlateLog:
    log = bandit.log
    chosen = slates(bandit, target[np.arange(len(log.action)), log.action])
    probability = slates(bandit, log.probability).cumprod(axis=1)
    if not (probability > 0.0).all():
        raise DataError(f"{bandit.name}: slates are too long, their chances too small to be told from 0")
    return SlateLog(slates(bandit, log.reward), probability, np.minimum(chosen.cumprod(axis=1), 1.0))


def _weighed_rest(bandit: LoggedBandit, before: SlateLog) -> Floats:
    """Of each row, an unbiased guess of what the target earns from its slot on, given the slots up to it, `(n,)`.

    Its own reward, and the later ones weighed by how much likelier the target makes the slots between. It uses no
    other slate, so that whoever learns from it met no other customer.
    """
    weights = before.weights
    step = np.divide(weights[:, 1:], weights[:, :-1], out=np.zeros_like(weights[:, 1:]), where=weights[:, :-1] > 0.0)
    rest = before.reward.copy()
    for slot in range(rest.shape[1] - 2, -1, -1):
        rest[:, slot] += step[:, slot] * rest[:, slot + 1]
    assert bandit.decision is not None
    assert bandit.slot is not None
    return rest[bandit.decision, bandit.slot]
