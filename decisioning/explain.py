"""Why a customer got what they got: the record's numbers put into the formula, and what would change it.

Read from the record alone, so an explanation never depends on what the catalogue says today.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec

from decisioning.content_types import NO_ACTION
from decisioning.reasons import Drop
from decisioning.record import Candidate, DecisionRecord, ShownSlot

LOSERS = 3
LEVEL = 1e-6  # scores are float32: priorities that differ by less, relatively, are the same
BY_RESPONSE = "propensity x context weight x value x lever"
BY_UPLIFT = "uplift x context weight x value x lever"


class ExplainedAction(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its formula.

    Attributes:
        slot: Where it was shown; None where it was not.
        rank: By priority, from 1; candidates of one priority share it. None where nothing was scored.
        formula: With the numbers put in: `0.052 x 1.0 x 28.0 x 1.0 = 1.456`.
        terms: What the numbers are; `uplift` is what the model learnt of it, or the propensity above that of
            showing nothing.
        probability: Of what happened in its slot, given the slots before it; None where nothing was drawn.
        goes_on: It continues an earlier decision, and so came before everything that does not.
        why: In words.
    """

    action_id: str
    slot: int | None
    rank: int | None
    formula: str | None
    terms: str
    probability: float | None
    goes_on: bool
    why: str


class Loser(msgspec.Struct, frozen=True, kw_only=True):
    """One that could have been shown and was not: what, alone, would have brought it level.

    Attributes:
        over: The action with the lowest priority of those that took the slots it could have had.
        needed: The priority that it would have had to reach; None where no number decided.
        propensity, value, lever: What each alone would have had to be; None where none would do, or
            where it ranked high enough.
        chance: With which the policy would have put it where `over` is.
        why: In words.
    """

    action_id: str
    priority: float
    over: str
    needed: float | None
    propensity: float | None
    value: float | None
    lever: float | None
    chance: float
    why: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A whole decision.

    Attributes:
        how: How it came to be, in words.
        candidates: Those shown by slot, then the others by priority.
        losers: The three best that could have been shown and were not.
        dropped: Every action that a step took out, in the order of the steps.
    """

    how: str
    candidates: tuple[ExplainedAction, ...]
    losers: tuple[Loser, ...]
    dropped: tuple[Drop, ...]

    @property
    def shown(self) -> tuple[ExplainedAction, ...]:
        """What is in the slots."""
        return tuple(candidate for candidate in self.candidates if candidate.slot is not None)


def explain(record: DecisionRecord) -> Explanation:
    """The explanation of a record."""
    slots = {slot.action_id: slot for slot in record.slots}
    order = sorted(
        record.candidates,
        key=lambda c: (slots[c.action_id].slot if c.action_id in slots else math.inf, -(c.priority or 0.0)),
    )
    return Explanation(
        how=_how(record),
        candidates=tuple(_explained(record, candidate, slots.get(candidate.action_id)) for candidate in order),
        losers=tuple(_losers(record)),
        dropped=record.dropped,
    )


def formula(candidate: Candidate) -> str | None:
    """The candidate's formula with its numbers; None where it was not scored.

    >>> formula(Candidate("card", None, 0.052, 28.0, 1.0, 1.0, 1.456, 1.0, 0))
    '0.052 x 1.0 x 28.0 x 1.0 = 1.456'
    """
    if candidate.propensity is None or candidate.priority is None:
        return None
    first = candidate.propensity if candidate.uplift is None else candidate.uplift
    factors = (first, candidate.context_weight, candidate.value, candidate.lever)
    return f"{' x '.join(map(_number, factors))} = {_number(candidate.priority)}"


def policy_name(record: DecisionRecord) -> str:
    """The exploration policy with its parameters: `squarecb (gamma 10.0)`."""
    parameters = ", ".join(f"{name} {value}" for name, value in record.policy.parameters.items() if name != "policy")
    return f"{record.policy.policy} ({parameters})" if parameters else record.policy.policy


def _how(record: DecisionRecord) -> str:
    if not record.slots:
        return f"nothing is shown: {record.reason_detail}" if record.reason_detail else "nothing is shown"
    if record.apprentice:
        return record.reason_detail
    if all(slot.probability is None for slot in record.slots):
        return f"{record.reason_detail}; nothing was scored or drawn, the order is the catalogue's"
    drew = f"{policy_name(record)} drew the order among {len(record.candidates)} candidates"
    if any(candidate.tier < 0 for candidate in record.candidates):
        drew += ", after what goes on from an earlier decision"
    return f"{record.reason_detail}; {drew}" if record.reason_detail else drew


def _explained(record: DecisionRecord, candidate: Candidate, slot: ShownSlot | None) -> ExplainedAction:
    rank = None
    if candidate.priority is not None:
        rank = 1 + sum(_above(other, candidate.priority) for other in record.candidates)
    return ExplainedAction(
        action_id=candidate.action_id,
        slot=slot.slot if slot else None,
        rank=rank,
        formula=formula(candidate),
        terms=BY_RESPONSE if candidate.uplift is None else BY_UPLIFT,
        probability=slot.probability if slot else None,
        goes_on=candidate.tier < 0,
        why=_why(record, candidate, slot, rank),
    )


def _why(record: DecisionRecord, candidate: Candidate, slot: ShownSlot | None, rank: int | None) -> str:
    said = []
    if candidate.shift and candidate.score is not None and candidate.propensity is not None:
        said.append(
            f"propensity {_number(candidate.propensity)}: the model said {_number(candidate.score)}, and responses"
            " since its training speak for " + ("more" if candidate.shift > 0.0 else "less")
        )
    if candidate.uplift is not None and candidate.propensity is not None and record.baseline is not None:
        said.append(
            f"uplift {_number(candidate.uplift)}: propensity {_number(candidate.propensity)} above"
            f" {_number(record.baseline)}, that of showing nothing"
        )
    elif candidate.uplift is not None and candidate.propensity is not None:
        said.append(
            f"uplift {_number(candidate.uplift)}, learnt from customers who were shown nothing; propensity"
            f" {_number(candidate.propensity)}"
        )
    if candidate.tier < 0:
        said.append("goes on from an earlier decision")
    if slot is None:
        place = record.candidates.index(candidate)
        if not record.slots or place not in record.slots[0].available:
            return "; ".join([*said, "no longer available at the reservation"])
        return "; ".join([*said, _closed(record, place) or "not shown"])
    if slot.repeats is not None:
        said.append(f"still the contact of decision {slot.repeats}")
    if record.apprentice:
        place = record.candidates.index(candidate)
        would = _chance(record, place, slot) if candidate.propensity is not None else None
        said.append("the caller's choice")
        if would is not None:
            said.append(f"the policy would have drawn it with probability {_number(would)}")
    elif slot.probability is None:
        said.append("a fallback action")
    elif candidate.tier >= 0:
        drawn = f"drawn with probability {_number(slot.probability)}"
        said.append(drawn if slot.slot == 1 else f"{drawn}, given the slots before")
        if rank is not None and _was_exploration(record, slot, candidate):
            said.append(f"exploration: it ranks {rank}. by priority")
    return "; ".join(said)


def _closed(record: DecisionRecord, place: int) -> str | None:
    """How the answer's own slots closed the later ones to a candidate that the first could have had.

    None where they did not, as far as the record says. It has neither a candidate's group nor the
    contact policies: what the slot took is named, not which of it was too much.
    """
    for before, slot in pairwise(record.slots):
        if place in slot.available:
            continue
        if record.candidates[place].action_id == NO_ACTION:
            return "to show nothing was possible in slot 1 alone"
        named = (("group", before.group), ("goal", before.goal), ("budget", before.budget))
        took = ", ".join(f"{what} {name}" for what, name in named if name)
        return f"closed for slot {slot.slot} by what slot {before.slot} took" + (f" ({took})" if took else "")
    last = record.slots[-1]
    if last.action_id == NO_ACTION and record.request.limit != 1:
        return f"slot {last.slot} shows nothing, which ends the answer"
    return None


def _was_exploration(record: DecisionRecord, slot: ShownSlot, candidate: Candidate) -> bool:
    free = (record.candidates[place] for place in slot.available)
    return any(_above(other, candidate.priority or 0.0) for other in free if other.tier >= 0)


def _above(candidate: Candidate, priority: float) -> bool:
    own = candidate.priority or 0.0
    return own > priority and not _level(own, priority)


def _level(priority: float, other: float) -> bool:
    return math.isclose(priority, other, rel_tol=LEVEL)


class _Rival(NamedTuple):
    """Who took a slot that another could have had."""

    slot: ShownSlot
    candidate: Candidate


def _losers(record: DecisionRecord) -> Iterator[Loser]:
    """The three of the highest priority that were available for some slot and got none.

    None where the caller's order was served: no number decided.
    """
    if record.apprentice:
        return
    shown = {slot.action_id for slot in record.slots}
    by_id = {candidate.action_id: candidate for candidate in record.candidates}
    rivals: dict[int, list[_Rival]] = {}
    for slot in record.slots:
        for place in slot.available:
            rivals.setdefault(place, []).append(_Rival(slot, by_id[slot.action_id]))
    scored = [
        (place, candidate, candidate.priority)
        for place, candidate in enumerate(record.candidates)
        if place in rivals and candidate.action_id not in shown and candidate.priority is not None
    ]
    for place, candidate, priority in sorted(scored, key=lambda each: -each[2])[:LOSERS]:
        yield _loser(record, place, candidate, priority, rivals[place])


def _loser(record: DecisionRecord, place: int, candidate: Candidate, priority: float, rivals: list[_Rival]) -> Loser:
    # What goes on from earlier comes first whatever the numbers are: only other rivals can be reached.
    reachable = [rival for rival in rivals if rival.candidate.tier >= 0]
    slot, rival = min(reachable or rivals, key=lambda each: each.candidate.priority or 0.0)
    target = rival.priority or 0.0
    chance = _chance(record, place, slot)
    where = f"{rival.action_id} in slot {slot.slot}"
    needed = _Needed()
    if not reachable:
        why = f"{where} goes on from an earlier decision, and that comes first whatever the numbers are"
    elif priority >= target or _level(priority, target):
        why = (
            f"ranks {'level with' if _level(priority, target) else 'above'} {where}: the policy drew that with"
            f" probability {_number(slot.probability or 0.0)}, and would have drawn this with {_number(chance)}"
        )
    else:
        needed = _needed(record, candidate, rival, target)
        why = f"level with {where} at priority {_number(target)}: {_ways(candidate, needed)}"
    closed = _closed(record, place)
    return Loser(
        action_id=candidate.action_id,
        priority=priority,
        over=rival.action_id,
        needed=target if reachable else None,
        propensity=needed.propensity,
        value=needed.value,
        lever=needed.lever,
        chance=chance,
        why=f"{closed}; {why}" if closed else why,
    )


class _Needed(NamedTuple):
    """What each number alone would have to be; None where it cannot do it."""

    propensity: float | None = None
    value: float | None = None
    lever: float | None = None


def _needed(record: DecisionRecord, candidate: Candidate, rival: Candidate, target: float) -> _Needed:
    worth = candidate.context_weight * candidate.value * candidate.lever
    first = (candidate.propensity or 0.0) if candidate.uplift is None else candidate.uplift
    propensity = target / worth if worth > 0.0 else None
    over = record.baseline
    if propensity is not None and candidate.uplift is not None:
        # Of a model that learnt uplift itself, no propensity would change it.
        propensity = None if over is None else propensity + over
    elif propensity is not None and candidate.action_id == NO_ACTION and rival.uplift is not None and over is not None:
        # Were showing nothing likelier, the rival's uplift over it would be smaller: they meet half-way.
        rivals = rival.context_weight * rival.value * rival.lever
        propensity = rivals * (rival.propensity or 0.0) / (worth + rivals)
    without_value = first * candidate.context_weight * candidate.lever
    without_lever = first * candidate.context_weight * candidate.value
    return _Needed(
        propensity if propensity is not None and propensity <= 1.0 else None,
        target / without_value if without_value > 0.0 else None,
        target / without_lever if without_lever > 0.0 else None,
    )


def _ways(candidate: Candidate, needed: _Needed) -> str:
    found = [
        f"{name} {_number(wanted)} instead of {_number(has or 0.0)}"
        for name, wanted, has in (
            ("propensity", needed.propensity, candidate.propensity),
            ("value", needed.value, candidate.value),
            ("lever", needed.lever, candidate.lever),
        )
        if wanted is not None
    ]
    if not found:
        return "no one number would do"
    return " or ".join(filter(None, (", ".join(found[:-1]), found[-1])))


def _chance(record: DecisionRecord, place: int, slot: ShownSlot) -> float:
    """With which the policy would have put this candidate there, given the slots before."""
    free = [record.candidates[each] for each in slot.available]
    first = min(candidate.tier for candidate in free)
    candidate = record.candidates[place]
    if candidate.tier != first:
        return 0.0
    return candidate.weight / sum(each.weight for each in free if each.tier == first)


def _number(value: float) -> str:
    """Four significant figures, or the cents of what is larger.

    >>> [_number(value) for value in (28.0, 1.0, 0.0521777, 12345.678)]
    ['28.0', '1.0', '0.05218', '12345.68']
    """
    return f"{value:.2f}" if abs(value) >= 1000.0 else str(float(f"{value:.4g}"))
