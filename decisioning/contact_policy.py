"""Contact policies: when an action is suppressed because the customer was contacted enough, or said no."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from decisioning.caps import Caps
from decisioning.content import ContactPolicy, CoolDown
from decisioning.content_types import NO_ACTION, CountedPer
from decisioning.profile import Contact

_GET = {"channel": attrgetter("channel"), "group": attrgetter("group"), "goal": attrgetter("goal"),
        "action": attrgetter("action_id")}  # fmt: skip
Counted = tuple[CountedPer, str]  # what a contact counts as: `("group", "cards")`


class ContactCounts:
    """How often a customer was contacted, by what each policy counts together.

    Found out once per decision, so that asking about a candidate costs no more for a long history,
    and only for policies that so many contacts can reach. A contact exactly one window old no longer
    counts, before or after: one that is planned for later counts where both are in one window.

    >>> from datetime import timedelta
    >>> once_a_day = ContactPolicy("once_a_day", limit=1, within=timedelta(days=1), per="group")
    >>> seen = [Contact("a", "cards", "web", datetime(2026, 1, 1, 9))]
    >>> counts = ContactCounts([once_a_day], seen, now=datetime(2026, 1, 1, 20))
    >>> counts.suppressing({"group": "cards"}).id
    'once_a_day'
    >>> ContactCounts([once_a_day], seen, now=datetime(2026, 1, 2, 9)).suppressing({"group": "cards"}) is None
    True

    Attributes:
        reached: What a contact must not count as, with the place of the first policy that forbids it.
    """

    __slots__ = ("_caps", "_keys", "_open", "_recent", "reached")

    def __init__(
        self,
        policies: Sequence[ContactPolicy],
        contacts: Iterable[Contact],
        *,
        now: datetime,
        account_contacts: Sequence[Contact] = (),
    ) -> None:
        self._caps = policies if isinstance(policies, Caps) else Caps(policies)
        own = [contact for contact in contacts if contact.action_id != NO_ACTION]
        everyone = own
        if account_contacts:
            everyone = own + [contact for contact in account_contacts if contact.action_id != NO_ACTION]
        self._recent: list[list[Contact]] = []
        for of, within in self._caps.recent:
            begin, end = now - within, now + within
            self._recent.append([c for c in (everyone if of == "account" else own) if begin < c.at < end])
        self._keys: dict[tuple[int, CountedPer], list[str]] = {}
        self.reached: dict[Counted, int] = {}
        # The others: how many contacts are missing at least, and what is asked.
        self._open: list[tuple[int, int, CountedPer, str | None, int]] = []
        numbers = [len(recent) for recent in self._recent]
        for place, (which, per, only, limit) in enumerate(self._caps.asked):
            missing = limit - numbers[which]
            self._open.append((missing, which, per, only, limit))
            if missing > 0:
                continue
            if only is not None:
                if self._counted(which, per).count(only) >= limit:
                    self.reached.setdefault((per, only), place)
            elif limit == 0:
                self.reached.setdefault(("any", ""), place)
            else:
                for key, number in Counter(self._counted(which, per)).items():
                    if number >= limit:
                        self.reached.setdefault((per, key), place)

    def suppressing(self, counted_by: Mapping[CountedPer, str]) -> ContactPolicy | None:
        """The first policy that forbids one more contact which counts as this, or None."""
        reached = [self.reached[counted] for counted in counted_by.items() if counted in self.reached]
        return self._caps[min(reached)] if reached else None

    def closed_by(self, more: Sequence[Mapping[CountedPer, str]]) -> set[Counted]:
        """What a contact must not count as once there are more contacts, which count as these, now."""
        closed: set[Counted] = set()
        number = len(more)
        for missing, which, per, only, limit in self._open:
            if missing > number:
                continue
            keys = [counted_by[per] for counted_by in more]
            for key in dict.fromkeys(keys) if only is None else [only] * (only in keys):
                if self._counted(which, per).count(key) + keys.count(key) >= limit:
                    closed.add((per, key))
        return closed

    def _counted(self, which: int, per: CountedPer) -> list[str]:
        """What recent contacts count as, one by one."""
        keys = self._keys.get((which, per))
        if keys is None:
            get, recent = _GET.get(per), self._recent[which]
            keys = self._keys[which, per] = list(map(get, recent)) if get else [""] * len(recent)
        return keys


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
