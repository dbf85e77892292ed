"""What recent contacts tell of the next one: the model learns fatigue and recovery from it.

A contact tires, most of all of the same action, then of its group, and wears off. Counts over a day, a
week and a month say how much there was, the hours since the last say how long it could wear off, and
rejections say that it was unwelcome. They are one function of the contacts as they were at the decision,
in serving and in training, so a model ranks an action lower just after it was shown and higher again
later: arbitration spaces contacts by what they are worth, below what caps allow.
"""

import math
from collections.abc import Sequence
from datetime import datetime

from decisioning.content import Action
from decisioning.profile import Contact

DAY, WEEK, MONTH = 86_400.0, 604_800.0, 2_592_000.0  # seconds; hot state holds a month of contacts
_OF = ("", "group_", "action_")  # any contact; one of this action's group; one with this action
_OF_EACH = ("{}contacts_1d", "{}contacts_7d", "{}contacts_30d", "{}rejects_30d", "hours_since_{}contact")
HISTORY_FEATURES = tuple(name.format(of) for of in _OF for name in _OF_EACH)
NO_HISTORY: tuple[float, ...] = (0, 0, 0, 0, math.nan) * len(_OF)  # of whom nobody contacted

Lately = tuple[int, int, int, int, float]
_NEVER: Lately = (0, 0, 0, 0, math.nan)


class ContactHistory:
    """The contacts of a customer as the model sees them, `HISTORY_FEATURES` of any action.

    Exactly a day, week or month ago no longer counts. Who was not contacted within a month has no hours since.

    >>> seen = [Contact("b", "g", "web", datetime(2026, 1, 6, 22)), Contact("a", "g", "web", datetime(2025, 1, 1))]
    >>> history = ContactHistory(seen, now=datetime(2026, 1, 7))
    >>> dict(zip(HISTORY_FEATURES, history.of(Action(id="a", name="A", group="g", goal="o"))))["group_contacts_7d"]
    1
    """

    __slots__ = ("_actions", "_any", "_groups")

    def __init__(self, contacts: Sequence[Contact], *, now: datetime) -> None:
        of_any: list[tuple[float, bool]] = []
        groups: dict[str, list[tuple[float, bool]]] = {}
        actions: dict[tuple[str, str], list[tuple[float, bool]]] = {}
        for contact in contacts:
            age = (now - contact.at).total_seconds()
            if contact.is_counted and 0.0 <= age < MONTH:
                seen = age, contact.rejected_at is not None
                of_any.append(seen)
                groups.setdefault(contact.group, []).append(seen)
                actions.setdefault((contact.group, contact.action_id), []).append(seen)
        self._any = _lately(of_any)
        self._groups = {group: _lately(seen) for group, seen in groups.items()}
        self._actions = {action: _lately(seen) for action, seen in actions.items()}

    def of(self, action: Action) -> tuple[float, ...]:
        """`HISTORY_FEATURES` of this action."""
        of_group = self._groups.get(action.group)
        if of_group is None:
            return self._any + _NEVER + _NEVER
        return self._any + of_group + self._actions.get((action.group, action.id), _NEVER)


def _lately(seen: Sequence[tuple[float, bool]]) -> Lately:
    if not seen:
        return _NEVER
    if len(seen) == 1:
        age, rejected = seen[0]
        return int(age < DAY), int(age < WEEK), 1, int(rejected), age / 3600.0
    ages = [age for age, _ in seen]
    return (
        sum(age < DAY for age in ages),
        sum(age < WEEK for age in ages),
        len(ages),
        sum(rejected for _, rejected in seen),
        min(ages) / 3600.0,
    )
