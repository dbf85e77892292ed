"""From one distribution over candidates to filled slots with exact probabilities.

One function draws a full order without replacement; the reservation takes, slot by slot, the
first candidate in that order that is available at that instant. The probability of what lands in
a slot is then the policy renormalised over the candidates that were available and not yet shown,
and that is what is logged: the raw probability, or one renormalised only after a lost
reservation, makes importance weights biased.
"""

import hashlib
from collections.abc import Callable, Sequence
from math import fsum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.exploration import Estimates, Policy, with_floor


class Distribution(NamedTuple):
    """What a policy says about the candidates, as weights within tiers.

    Candidates of a lower tier come first, always; within a tier, weights are relative chances.
    A policy's own candidates are tier 0. Those to which it gives no mass follow by value, ties
    sharing a tier, so that a second slot has a defined distribution under a greedy policy too.
    """

    weights: NDArray[np.float64]  # (n_candidates,), positive
    tiers: NDArray[np.int64]  # (n_candidates,)


def distribution(policy: Policy, estimates: Estimates) -> Distribution:
    """The policy's distribution over candidates of which this is believed, its floor included.

    >>> from decisioning.exploration import Greedy
    >>> distribution(Greedy(), Estimates.known(np.array([0.2, 0.9, 0.4]))).tiers.tolist()
    [2, 0, 1]

    Raises:
        ArithmeticError: The policy's probabilities do not form a distribution.
    """
    values = estimates.values
    weights = with_floor(policy.probabilities(estimates), policy.minimum_probability)
    least = float(np.minimum.reduce(weights))
    if not (least >= 0.0 and abs(float(np.add.reduce(weights)) - 1.0) < 1e-9):
        raise ArithmeticError(f"{policy} gave {weights.tolist()}, must be at least 0 and sum to 1")
    tiers = np.zeros(len(values), dtype=np.int64)
    if least == 0.0:
        without = weights == 0.0
        _, rank = np.unique(-values[without], return_inverse=True)
        tiers[without] = 1 + rank
        weights = np.where(without, 1.0, weights)
    return Distribution(weights, tiers)


def uniforms(key: bytes, decision_id: str, count: int) -> NDArray[np.float64]:
    """`count` numbers in (0, 1), fixed by a server secret and the decision's id.

    A keyed hash (BLAKE2b in counter mode) rather than a generator: its stream is the same in
    every library version, and a caller who chooses ids cannot steer it without the key.

    >>> uniforms(b"secret", "d-1", 2).round(6).tolist() == uniforms(b"secret", "d-1", 3).round(6).tolist()[:2]
    True
    """
    identity = decision_id.encode()
    stream = b"".join(
        hashlib.blake2b(block.to_bytes(4, "big") + identity, key=key, digest_size=64).digest()
        for block in range((count + 7) // 8)
    )
    integers = np.frombuffer(stream, dtype=">u8", count=count) >> np.uint64(11)
    return (integers.astype(np.float64) + 0.5) * 2.0**-53


def key_id(key: bytes) -> str:
    """A secret's public name: the first characters of its hash.

    >>> key_id(b"secret")
    '2bb80d537b1d'
    """
    return hashlib.sha256(key).hexdigest()[:12]


def draw_order(spread: Distribution, noise: NDArray[np.float64]) -> NDArray[np.int64]:
    """A full order of the candidates, drawn without replacement; `noise` is `(n_candidates,)`.

    An exponential race, `arg-sort(E_i / p_i)`: who comes first is distributed as the weights, and
    by memorylessness so is who comes first among any subset.

    >>> spread = Distribution(np.array([0.5, 0.5, 1.0]), np.array([0, 0, 1]))
    >>> draw_order(spread, np.array([0.9, 0.1, 0.5])).tolist()
    [0, 1, 2]
    """
    times = -np.log(noise) / spread.weights
    if not spread.tiers.any():
        return np.argsort(times, kind="stable")
    return np.lexsort((times, spread.tiers))


class FilledSlot(NamedTuple):
    """What a slot got; `available` are the candidates (by index) that it could have got."""

    chosen: int
    available: tuple[int, ...]


def fill_slots(
    order: Sequence[int], slots: int, available_after: Callable[[tuple[int, ...]], Sequence[int]]
) -> tuple[FilledSlot, ...]:
    """The first available candidate in the drawn order, per slot.

    `available_after(shown)` returns the candidates that may still be shown once those in `shown`
    have been, without these; asked anew for every slot, since taking one may close others (a
    group's cap). What one slot could not get, no later slot of the answer may get: the race's
    times of those that were passed over are known to be long, those of newcomers are not, and
    `slot_probabilities` would no longer be their chance.

    >>> fill_slots([2, 0, 1], 2, lambda shown: [i for i in (0, 1, 2) if i not in shown])
    (FilledSlot(chosen=2, available=(0, 1, 2)), FilledSlot(chosen=0, available=(0, 1)))
    """
    filled: list[FilledSlot] = []
    shown: tuple[int, ...] = ()
    for _ in range(slots):
        free = tuple(available_after(shown))
        could = frozenset(free)
        chosen = next((candidate for candidate in order if candidate in could), None)
        if chosen is None:
            break
        filled.append(FilledSlot(chosen, free))
        shown = (*shown, chosen)
    return tuple(filled)


def first_slot(spread: Distribution, available: Sequence[int]) -> NDArray[np.float64]:
    """The chance of each candidate, `(n_candidates,)`, to be in the first slot, of those that could be; 0 elsewhere.

    >>> first_slot(Distribution(np.array([0.6, 0.3, 0.1]), np.zeros(3, dtype=np.int64)), (1, 2)).round(3).tolist()
    [0.0, 0.75, 0.25]
    """
    chances = np.zeros(len(spread.weights))
    places = np.asarray(available, dtype=np.int64)
    if len(places):
        ahead = places[spread.tiers[places] == spread.tiers[places].min()]
        chances[ahead] = spread.weights[ahead] / spread.weights[ahead].sum()
    return chances


def slot_probabilities(spread: Distribution, filled: Sequence[FilledSlot]) -> list[float]:
    """The chance with which each slot got what it got, given its availability.

    >>> spread = Distribution(np.array([0.6, 0.3, 0.1]), np.zeros(3, dtype=np.int64))
    >>> [round(p, 3) for p in slot_probabilities(spread, [FilledSlot(0, (0, 1, 2)), FilledSlot(1, (1, 2))])]
    [0.6, 0.75]

    Raises:
        ArithmeticError: A slot got what it could not: another tier was ahead.
    """
    weights, tiers = spread.weights.tolist(), spread.tiers.tolist()
    has_tiers = any(tiers)
    probabilities = []
    for chosen, available in filled:
        rivals: Sequence[int] = available
        if has_tiers:
            tier = min([tiers[index] for index in available])
            if tiers[chosen] != tier:
                raise ArithmeticError(f"candidate {chosen} was chosen while others of tier {tier} were ahead of it")
            rivals = [index for index in available if tiers[index] == tier]
        probabilities.append(weights[chosen] / fsum(map(weights.__getitem__, rivals)))
    return probabilities
