"""What customers did with what they were shown, as counts that the online posterior is fitted to.

Counts are whole numbers that add up in any order: rows may be late, and what is counted row by row is what
a count of the whole ledger gives. What hangs on the present (how many responses can have arrived, how much
old ones still say) is left to the fit (`response_shifts`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import floor, log
from typing import NamedTuple

import msgspec

from decisioning.case import NOT_PERSONALISED, RANKED, UNKNOWN_CUSTOMER
from decisioning.content import Placement
from decisioning.record import Assignment, DecisionRecord, OutcomeRecord
from decisioning.reward import counted, of_slot, opens_at, reward, was_shown

# Scores this close on the log-odds are counted together: pooling unequal ones would pull a shift towards 0.
BAND = 0.5
# Log-odds are added up as whole numbers of this size, so that their sum does not hang on the order.
UNIT = 1.0 / 1024.0
_LEAST = 1e-5  # as a score, and 1 less it is the most: beyond, log-odds are endless
# Time goes into buckets of so many minutes once all of a bucket is so many minutes old, the widest first.
_WIDTHS = ((1_440, 10 * 1_440), (360, 1_440), (60, 3 * 60), (10, 20), (1, 0))
# Decisions for which a model scored what was shown. Where features could not be read, scores say little.
_SCORED = frozenset({RANKED, UNKNOWN_CUSTOMER, NOT_PERSONALISED})


class Cell(NamedTuple):
    """Exposures that are counted together.

    Attributes:
        variants: Those of the customer's experiments (`variants_of`).
        begin: Of the bucket of time in which the contact was, in minutes since 1970.
        width: Of the bucket, in minutes.
        band: Which band of `BAND` the log-odds of the model's score lie in.
    """

    variants: str
    action_id: str
    channel: str
    placement: str
    begin: int
    width: int
    band: int


class Tally(NamedTuple):
    """How many exposures, how many of them succeeded so far, and the sum of their scores' log-odds in `UNIT`s."""

    trials: int
    successes: int
    offsets: int


Counts = dict[Cell, Tally]


class Exposure(NamedTuple):
    """One customer met one action: the finest cell that it is in, and what it adds there."""

    cell: Cell
    tally: Tally


def variants_of(assignments: Iterable[Assignment]) -> str:
    """The variants of a customer's experiments, as one name; empty outside of any.

    >>> variants_of([Assignment("hero_copy", "b", 0.5), Assignment("budget", "a", 0.5)])
    'budget=a,hero_copy=b'
    """
    return ",".join(sorted(f"{each.experiment}={each.variant}" for each in assignments))


def exposure(record: DecisionRecord, placement: Placement, reported: Iterable[OutcomeRecord]) -> Exposure | None:
    """What a decision adds to the counts, by the outcomes credited to it so far; None if nothing.

    The rules are those of training rows: what was not shown, a repeat of an earlier contact, and what no
    model scored, adds nothing. Nor does what the caller ordered. Only the first slot counts, since the
    score is that of the first slot: further down fewer look.
    """
    if record.reason not in _SCORED or record.model is None or record.apprentice or record.erased or not record.slots:
        return None
    slot = record.slots[0]
    if slot.slot != 1 or slot.repeats is not None:
        return None
    score = next(
        (c.propensity if c.score is None else c.score for c in record.candidates if c.action_id == slot.action_id), None
    )
    own = of_slot(record, slot, counted(reported, record, placement))
    if score is None or not was_shown(slot.action_id, own, placement):
        return None
    log_odds = _log_odds(score)
    minute = int(opens_at(record).timestamp()) // 60
    cell = Cell(
        variants_of(record.assignments),
        slot.action_id,
        record.channel,
        record.placement,
        minute,
        1,
        floor(log_odds / BAND),
    )
    return Exposure(cell, Tally(1, int(reward(own, placement) > 0.0), round(log_odds / UNIT)))


def add(counts: Counts, exposed: Exposure | None, *, times: int = 1) -> None:
    """Count an exposure, or take it back (`times` -1); None is none.

    >>> counts = Counts()
    >>> once = Exposure(Cell("", "card", "web", "home", 7, 1, -6), Tally(1, 0, -3000))
    >>> add(counts, once), add(counts, once, times=-1), counts
    (None, None, {})
    """
    if exposed is not None:
        _add(counts, exposed.cell, exposed.tally, times)


def coarsened(counts: Mapping[Cell, Tally], *, now: datetime) -> Counts:
    """The same counts in the buckets of this time: the older, the wider.

    Doing so now and again later is the same as doing so later, so it does not matter how often it is done.

    >>> from datetime import UTC
    >>> at = Cell("", "card", "web", "home", 1_000, 1, -6)
    >>> [*coarsened({at: Tally(1, 0, 0), at._replace(begin=1_003): Tally(1, 1, 0)},
    ...     now=datetime.fromtimestamp(1_100 * 60, UTC)).items()]  # doctest: +NORMALIZE_WHITESPACE
    [(Cell(variants='', action_id='card', channel='web', placement='home', begin=1000, width=10, band=-6),
      Tally(trials=2, successes=1, offsets=0))]
    """
    minute, found = int(now.timestamp()) // 60, Counts()
    for cell, tally in counts.items():
        for width, age in _WIDTHS:
            begin = cell.begin - cell.begin % width
            if minute - (begin + width) >= age or width <= cell.width:
                kept = cell if width <= cell.width else cell._replace(begin=begin, width=width)
                _add(found, kept, tally, 1)
                break
    return found


def encoded(counts: Mapping[Cell, Tally]) -> bytes:
    """The counts as bytes, the same for the same counts."""
    return msgspec.msgpack.encode(sorted(counts.items()))


def decoded(kept: bytes) -> Counts:
    """The counts in `encoded` bytes.

    >>> counts = {Cell("", "card", "web", "home", 7, 1, 0): Tally(3, 1, 5)}
    >>> decoded(encoded(counts)) == counts
    True
    """
    return dict(_decoder.decode(kept))


_decoder = msgspec.msgpack.Decoder(list[tuple[Cell, Tally]])


def _add(counts: Counts, cell: Cell, tally: Tally, times: int) -> None:
    known = counts.get(cell)
    if known is None:
        known = Tally(0, 0, 0)
    new = Tally(*(old + times * more for old, more in zip(known, tally, strict=True)))
    if any(new):
        counts[cell] = new
    else:
        counts.pop(cell, None)


def _log_odds(score: float) -> float:
    inside = min(max(score, _LEAST), 1.0 - _LEAST)
    return log(inside / (1.0 - inside))
