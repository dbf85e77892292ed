"""Contact policies: when an action is suppressed because the customer was contacted enough, or said no."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

from decisioning.content import ContactPolicy, CoolDown, CountedPer
from decisioning.profile import Contact

_GET = {"channel": attrgetter("channel"), "group": attrgetter("group"), "goal": attrgetter("goal"),
        "action": attrgetter("action_id")}  # fmt: skip


class ContactCounts:
    """How often a customer was contacted, by what each policy counts together.

    Counted once per decision, so that asking about a candidate costs one look-up for each policy
    that is reached at all, however long the history is. A contact exactly one window old no longer
    counts; one that is planned for later counts already.

    >>> once_a_day = ContactPolicy("once_a_day", limit=1, within=timedelta(days=1), per="group")
    >>> seen = [Contact("a", "cards", "web", datetime(2026, 1, 1, 9))]
    >>> counts = ContactCounts([once_a_day], seen, now=datetime(2026, 1, 1, 20))
    >>> counts.suppressing({"group": "cards"}).id
    'once_a_day'
    >>> ContactCounts([once_a_day], seen, now=datetime(2026, 1, 2, 9)).suppressing({"group": "cards"}) is None
    True
    """

    __slots__ = ("_counts", "_policies", "_reached")

    def __init__(
        self,
        policies: Sequence[ContactPolicy],
        contacts: Iterable[Contact],
        *,
        now: datetime,
        account_contacts: Iterable[Contact] = (),
    ) -> None:
        self._policies = policies
        own = _History(contacts, now)
        everyone = _History([*own.contacts, *account_contacts], now) if account_contacts else own
        # Policies that count alike share one count.
        shared: dict[tuple[str, CountedPer, timedelta], Counter[str]] = {}
        self._counts: list[Counter[str]] = []
        for policy in policies:
            alike = (policy.of, policy.per, policy.within)
            if alike not in shared:
                history = everyone if policy.of == "account" else own
                shared[alike] = history.counts(policy.per, policy.within)
            self._counts.append(shared[alike])
        self._reached = self._find_reached()

    def suppressing(self, counted_by: Mapping[CountedPer, str]) -> ContactPolicy | None:
        """The first policy that forbids one more contact which counts as this, or None."""
        for policy, counts in self._reached:
            key = counted_by[policy.per]
            if (policy.only is None or policy.only == key) and counts[key] >= policy.limit:
                return policy
        return None

    @property
    def suppresses_any(self) -> bool:
        """Whether any policy is reached for anything."""
        return bool(self._reached)

    def add(self, counted_by: Mapping[CountedPer, str]) -> None:
        """One more contact, now."""
        done: set[int] = set()  # counts are shared by policies that count alike
        for policy, counts in zip(self._policies, self._counts, strict=True):
            if id(counts) not in done:
                done.add(id(counts))
                counts[counted_by[policy.per]] += 1
        self._reached = self._find_reached()

    def _find_reached(self) -> list[tuple[ContactPolicy, Counter[str]]]:
        return [
            (policy, counts)
            for policy, counts in zip(self._policies, self._counts, strict=True)
            if policy.limit == 0
            or (counts[policy.only] if policy.only is not None else max(counts.values(), default=0)) >= policy.limit
        ]


class Suppression(NamedTuple):
    """A cool-down that holds, and until when."""

    cool_down: CoolDown
    until: datetime


def cooling_down(
    cool_downs: Sequence[CoolDown], contacts: Sequence[Contact], *, now: datetime
) -> dict[tuple[CountedPer, str], Suppression]:
    """What is silent now, by what it is counted by; `contacts` are oldest first.

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
            since = _rejected(met) if cool_down.after == "reject" else _ignored(met, cool_down.times)
            if since is not None and now - since < cool_down.lasting:
                silent.setdefault((cool_down.per, key), Suppression(cool_down, since + cool_down.lasting))
    return silent


def _rejected(met: Sequence[Contact]) -> datetime | None:
    return max((contact.rejected_at for contact in met if contact.rejected_at is not None), default=None)


def _ignored(met: Sequence[Contact], times: int) -> datetime | None:
    """When the last of `times` contacts in a row was that led to nothing."""
    last = met[-times:]
    if len(last) < times or any(contact.clicked_at or contact.accepted_at for contact in last):
        return None
    return last[-1].at


class _History:
    """Contacts in the order of their time, and what each policy sees of them."""

    __slots__ = ("_keys", "_times", "contacts", "now")

    def __init__(self, contacts: Iterable[Contact], now: datetime) -> None:
        self.contacts = sorted((contact for contact in contacts if contact.is_counted), key=attrgetter("at"))
        self.now = now
        self._times = [contact.at for contact in self.contacts]
        self._keys: dict[CountedPer, list[str]] = {}

    def counts(self, per: CountedPer, within: timedelta) -> Counter[str]:
        begin = bisect_right(self._times, self.now - within)
        if per == "any":
            return Counter({"": len(self._times) - begin})
        keys = self._keys.get(per)
        if keys is None:
            keys = self._keys[per] = [_GET[per](contact) for contact in self.contacts]
        return Counter(keys[begin:])
