"""Contact policies: when an action is suppressed because the customer was contacted enough, or said no."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from decisioning.caps import Caps
from decisioning.content import NO_ACTION, ContactPolicy, CoolDown, CountedPer
from decisioning.profile import Contact

_GET = {"channel": attrgetter("channel"), "group": attrgetter("group"), "goal": attrgetter("goal"),
        "action": attrgetter("action_id")}  # fmt: skip
_NONE = 1 << 30  # after every policy


class ContactCounts:
    """How often a customer was contacted, by what each policy counts together.

    Counted once per decision, so that asking about a candidate costs one look-up for each policy
    that is reached at all, however long the history is. A contact exactly one window old no longer
    counts, before or after: one that is planned for later counts where both are in one window.

    >>> from datetime import timedelta
    >>> once_a_day = ContactPolicy("once_a_day", limit=1, within=timedelta(days=1), per="group")
    >>> seen = [Contact("a", "cards", "web", datetime(2026, 1, 1, 9))]
    >>> counts = ContactCounts([once_a_day], seen, now=datetime(2026, 1, 1, 20))
    >>> counts.suppressing({"group": "cards"}).id
    'once_a_day'
    >>> ContactCounts([once_a_day], seen, now=datetime(2026, 1, 2, 9)).suppressing({"group": "cards"}) is None
    True
    """

    __slots__ = ("_blocked", "_caps", "_counts")

    def __init__(
        self,
        policies: Sequence[ContactPolicy],
        contacts: Iterable[Contact],
        *,
        now: datetime,
        account_contacts: Sequence[Contact] = (),
    ) -> None:
        self._caps = policies if isinstance(policies, Caps) else Caps(policies)
        own = [(contact, now - contact.at) for contact in contacts if contact.action_id != NO_ACTION]
        everyone = own
        if account_contacts:
            colleagues = [(contact, now - contact.at) for contact in account_contacts if contact.action_id != NO_ACTION]
            everyone = own + colleagues
        recent = [
            [contact for contact, age in (everyone if of == "account" else own) if -within < age < within]
            for of, within in self._caps.recent
        ]
        self._counts = [_counts(recent[which], per) for which, per in self._caps.alike]
        self._blocked = self._find_blocked()

    def copy(self) -> "ContactCounts":
        """The same counts, to add to."""
        copied = ContactCounts.__new__(ContactCounts)
        copied._caps = self._caps
        copied._counts = [counts.copy() for counts in self._counts]
        copied._blocked = tuple((per, (always, keys.copy())) for per, (always, keys) in self._blocked)
        return copied

    def suppressing(self, counted_by: Mapping[CountedPer, str]) -> ContactPolicy | None:
        """The first policy that forbids one more contact which counts as this, or None."""
        first = _NONE
        for per, (always, blocked) in self._blocked:
            place = blocked.get(counted_by[per], always)
            if place < first or always < first:
                first = place if place < always else always
        return self._caps[first] if first < _NONE else None

    @property
    def suppresses_any(self) -> bool:
        """Whether any policy is reached for anything."""
        return bool(self._blocked)

    def add(self, counted_by: Mapping[CountedPer, str]) -> None:
        """One more contact, now."""
        for (_, per), counts in zip(self._caps.alike, self._counts, strict=True):
            key = counted_by[per]
            counts[key] = counts.get(key, 0) + 1
        blocked = dict(self._blocked)
        for place, (which, per, only, limit) in enumerate(self._caps.asked):
            key = counted_by[per]
            if (only is None or only == key) and self._counts[which][key] >= limit:
                keys = blocked.setdefault(per, (_NONE, {}))[1]
                keys[key] = min(place, keys.get(key, _NONE))
        self._blocked = tuple(blocked.items())

    def _find_blocked(self) -> tuple[tuple[CountedPer, tuple[int, dict[str, int]]], ...]:
        """By what it is counted per: the first policy that forbids everything, and those that forbid a key."""
        found: dict[CountedPer, tuple[int, dict[str, int]]] = {}
        for place, (which, per, only, limit) in enumerate(self._caps.asked):
            counts = self._counts[which]
            if only is not None:
                if counts.get(only, 0) >= limit:
                    found.setdefault(per, (_NONE, {}))[1].setdefault(only, place)
            elif limit == 0:
                always, blocked = found.get(per, (_NONE, {}))
                found[per] = min(always, place), blocked
            else:
                for key, number in counts.items():
                    if number >= limit:
                        found.setdefault(per, (_NONE, {}))[1].setdefault(key, place)
        return tuple(found.items())


def _counts(contacts: Sequence[Contact], per: CountedPer) -> dict[str, int]:
    """How many of the contacts count as each key."""
    get = _GET.get(per)
    if get is None:
        return {"": len(contacts)} if contacts else {}
    counts: dict[str, int] = {}
    for contact in contacts:
        key = get(contact)
        counts[key] = counts.get(key, 0) + 1
    return counts


class Suppression(NamedTuple):
    """A cool-down that holds, and until when."""

    cool_down: CoolDown
    until: datetime


def cooling_down(
    cool_downs: Sequence[CoolDown], contacts: Sequence[Contact], *, now: datetime
) -> dict[tuple[CountedPer, str], Suppression]:
    """What is silent now, by what it is counted by; `contacts` are oldest first.

    >>> from datetime import timedelta
    >>> no_means_no = CoolDown(id="no", after="reject", lasting=timedelta(days=30))
    >>> said_no = Contact("card", "cards", "web", datetime(2026, 1, 1), rejected_at=datetime(2026, 1, 2))
    >>> list(cooling_down([no_means_no], [said_no], now=datetime(2026, 1, 31)))
    [('action', 'card')]
    >>> cooling_down([no_means_no], [said_no], now=datetime(2026, 2, 1))
    {}
    """
    silent: dict[tuple[CountedPer, str], Suppression] = {}
    for cool_down in cool_downs:
        get = _GET.get(cool_down.per)
        by_key: dict[str, list[Contact]] = {}
        for contact in contacts:
            key = get(contact) if get else ""
            if contact.is_counted and cool_down.only in (None, key):
                by_key.setdefault(key, []).append(contact)
        for key, met in by_key.items():
            since = _rejected(met) if cool_down.after == "reject" else _ignored(met, cool_down.times, now)
            if since is not None and now - since < cool_down.lasting:
                silent.setdefault((cool_down.per, key), Suppression(cool_down, since + cool_down.lasting))
    return silent


def _rejected(met: Sequence[Contact]) -> datetime | None:
    return max((contact.rejected_at for contact in met if contact.rejected_at is not None), default=None)


def _ignored(met: Sequence[Contact], times: int, now: datetime) -> datetime | None:
    """When the last of `times` answers in a row was that led to nothing, their time to be shown being over.

    Several slots of one answer are one.
    """
    answers: dict[str, list[Contact]] = {}
    for place, contact in enumerate(met):
        if (contact.until or contact.at) <= now:
            answers.setdefault(contact.decision_id or str(place), []).append(contact)
    last = [contact for answer in list(answers.values())[-times:] for contact in answer]
    if len(answers) < times or any(contact.clicked_at or contact.accepted_at for contact in last):
        return None
    return last[-1].at
