"""Examples of the ledger, gathered column by column: a million of them fit where a million dicts would not.

What many rows share is kept once (ids, sets of candidates, contexts, contacts: a contact stands in every
later decision of its customer for a month). What comes of it is the frame that `examples` describes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.content import Placement
from decisioning.content_types import Scalar, Value
from decisioning.profile import Contact
from decisioning.record import Assignment, Candidate, OutcomeRecord, ShownSlot, was_drawn
from decisioning.reward import counted, of_slot, reward, was_shown

PART = 1_024  # rows that wait as Python values before they become arrays
_COLUMNS: Mapping[str, type] = {
    "row_id": object, "source": object, "customer_id": object, "decided_at": np.int64, "placement": object,
    "channel": object, "slot": np.int64, "action_id": object, "probability": np.float64, "candidates": object,
    "context_weights": object, "values": object, "contacts": object, "met": np.bool_, "reward": np.float64,
    "success": np.int64, "drawn": np.bool_, "context": object,
}  # fmt: skip
_TIME = list(_COLUMNS).index("decided_at")
_NUMBERS = {float, int, type(None)}


class _Asked(msgspec.Struct):
    context: msgspec.Raw = msgspec.Raw(b"{}")


class Decided(msgspec.Struct):
    """What of a `DecisionRecord` an example needs; the rest is not read."""

    decision_id: str
    decided_at: datetime
    customer_id: str
    placement: str
    channel: str
    request: _Asked
    features: dict[str, Value]
    contacts: tuple[Contact, ...]
    candidates: tuple[Candidate, ...]
    slots: tuple[ShownSlot, ...]
    reason: str
    assignments: tuple[Assignment, ...] = ()
    contact_at: datetime | None = None
    personal: bool = True


class ExampleColumns:
    """Rows of decisions, added one by one; `customer.` and the like is what features' columns begin with."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rows: list[tuple[Any, ...]] = []
        self._features: list[dict[str, Value]] = []
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
        self._feature_parts: dict[str, list[NDArray[Any]]] = {}
        self._sizes: list[int] = []
        self._known: dict[Any, Any] = {}
        self._contexts: dict[bytes, dict[str, Scalar]] = {}

    def add(self, decided: Decided, placement: Placement, reported: Sequence[OutcomeRecord]) -> int:
        """A row for each slot that was met, and for a first slot that was drawn, whether or not it was; how many.

        Which draws were met depends on what was drawn: choosing to show nothing always is. So the draws
        that were not (not sent, bounced, no impression) may not be missing where draws are weighed. A
        slot that repeats an earlier contact has no row: its outcomes are the earlier one's (`credited`).
        """
        within = counted(reported, decided, placement) if reported else []
        drawn = was_drawn(decided.slots, decided.candidates, decided.assignments)
        added = 0
        for slot in decided.slots:
            own = of_slot(decided, slot, within) if within else []
            met = was_shown(slot.action_id, own, placement)
            if slot.repeats is None and (met or (slot.slot == 1 and drawn)):
                self._add(decided, slot, reward(own, placement) if own else 0.0, met=met, drawn=drawn)
                added += 1
        return added

    def frame(self) -> pd.DataFrame:
        """All rows, in the order in which they came."""
        self._flush()
        if not self._sizes:
            return pd.DataFrame()
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        columns["decided_at"] = pd.to_datetime(columns["decided_at"], unit="us", utc=True).as_unit("us")
        for name in list(self._feature_parts):
            columns[self._prefix + name] = _joined(self._feature_parts.pop(name), self._sizes)
        return pd.DataFrame(columns, copy=False)

    def _add(self, decided: Decided, slot: ShownSlot, earned: float, *, met: bool, drawn: bool) -> None:
        available = [decided.candidates[place] for place in slot.available]
        once = self._once
        self._rows.append(
            (
                f"{decided.decision_id}/{slot.slot}",
                "ledger",
                once(decided.customer_id),
                decided.decided_at,
                once(decided.placement),
                once(decided.channel),
                slot.slot,
                once(slot.action_id),
                float("nan") if slot.probability is None else slot.probability,
                once(tuple([candidate.action_id for candidate in available])),
                once(tuple([candidate.context_weight for candidate in available])),
                once(tuple([candidate.value for candidate in available])),
                tuple([self._contact(contact) for contact in decided.contacts]) if decided.personal else (),
                met,
                earned,
                int(earned > 0.0),
                drawn,
                self._context(decided.request.context),
            )
        )
        self._features.append(decided.features)
        if len(self._rows) >= PART:
            self._flush()

    def _once(self, value: Any) -> Any:
        """The first that was equal to it."""
        return self._known.setdefault(value, value)

    def _contact(self, contact: Contact) -> Contact:
        # By what sets contacts apart; whole ones would take several times as long to hash.
        key = contact.decision_id, contact.action_id, contact.clicked_at, contact.accepted_at, contact.rejected_at
        if not contact.decision_id:
            return contact
        return self._known.setdefault(key, contact)

    def _context(self, raw: msgspec.Raw) -> dict[str, Scalar]:
        key = bytes(raw)
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts[key] = msgspec.json.decode(raw, type=dict[str, Scalar])
        return found

    def _flush(self) -> None:
        if not self._rows:
            return
        for place, ((name, kind), column) in enumerate(
            zip(_COLUMNS.items(), zip(*self._rows, strict=True), strict=True)
        ):
            values = pd.DatetimeIndex(column).as_unit("us").asi8 if place == _TIME else column
            self._parts[name].append(_array(values, kind))
        part, before = len(self._sizes), self._features
        for name, of_feature in _columns_of(before):
            parts = self._feature_parts.setdefault(name, [])
            parts += [np.empty(0)] * (part - len(parts))  # of parts in which nobody had it
            parts.append(self._values(of_feature))
        self._sizes.append(len(before))
        self._rows, self._features = [], []

    def _values(self, values: Sequence[Value]) -> NDArray[Any]:
        if set(map(type, values)) <= _NUMBERS:
            return np.array(values, dtype=np.float64)
        known = self._known
        # Texts alone: 1, 1.0 and True are equal, and would become one of them.
        return _array([known.setdefault(value, value) if type(value) is str else value for value in values], object)


def _columns_of(rows: Sequence[dict[str, Value]]) -> Iterator[tuple[str, Sequence[Value]]]:
    """The rows' values by name."""
    names = list(rows[0])
    if all(list(row) == names for row in rows):  # nearly always, and several times as fast
        yield from zip(names, zip(*(row.values() for row in rows), strict=True), strict=True)
        return
    for name in dict.fromkeys(chain.from_iterable(rows)):
        yield name, [row.get(name) for row in rows]


def _array(values: Iterable[Any], kind: type) -> NDArray[Any]:
    if kind is not object:
        return np.asarray(values, dtype=kind)
    each = list(values)
    found = np.empty(len(each), dtype=object)
    found[:] = each
    return found


def _joined(parts: list[NDArray[Any]], sizes: Sequence[int]) -> NDArray[Any]:
    """One column; numbers where there was nothing else, NaN (or None) where a part has none."""
    parts += [np.empty(0)] * (len(sizes) - len(parts))
    numbers = all(part.dtype == np.float64 for part in parts)
    whole: NDArray[Any] = np.full(sum(sizes), np.nan if numbers else None, dtype=np.float64 if numbers else object)
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        if len(part):
            known = ~np.isnan(part) if part.dtype == np.float64 else np.ones(size, dtype=bool)
            whole[start : start + size][known] = part[known]
        start += size
    return whole
