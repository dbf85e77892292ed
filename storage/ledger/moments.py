"""The table of moments: who takes a row, and what becomes of it.

A row is taken by a claim that runs out: whoever dies with it gives it back by that. Rows are looked for in
a read, which holds up nobody, and claimed in a short write that looks again.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update

from decisioning.event_content import AtMost
from decisioning.identity import VISITOR, is_visitor
from decisioning.moments import decision_id_of
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import moments
from storage.settings import Settings

State = Literal["waiting", "decided", "delivered", "dead", "ended"]
OPEN = ("waiting", "decided")
# Longer than deciding or one attempt at delivering takes.
CLAIM = timedelta(minutes=1)


class KeptMoment(NamedTuple):
    """A row, as far as anybody needs it; `record` is the event, and once decided what is delivered."""

    moment_id: str
    moment: str
    customer_id: str | None
    anonymous_id: str | None
    market: str | None
    channel: str
    target: str | None
    state: State
    reason: str | None
    occurred_at: datetime
    due_at: datetime
    next_at: datetime
    expires_at: datetime | None
    attempts: int
    decision_id: str
    record: bytes


class Asking(NamedTuple):
    """A moment that is about to be decided: for these ids, which are one person, at most so often."""

    moment: KeptMoment
    members: tuple[str, ...]
    at_most: AtMost | None


class Decided(NamedTuple):
    """It has an answer, for this customer if one is known by now."""

    moment_id: str
    customer_id: str | None
    channel: str
    target: str | None
    expires_at: datetime
    record: bytes


class Settled(NamedTuple):
    """It is over."""

    moment_id: str
    state: Literal["delivered", "dead", "ended"]
    reason: str | None = None


class Later(NamedTuple):
    """It is tried again then, after so many attempts at delivering."""

    moment_id: str
    next_at: datetime
    attempts: int = 0


class Open(NamedTuple):
    """How many moments are in a state that is not the end, and when the oldest of them was due."""

    state: str
    number: int
    oldest_due_at: datetime


_COLUMNS = [moments.c[name] for name in KeptMoment._fields]


class MomentStore:
    """The moments of the domain; not for the event loop. Every method may raise `StoreError`."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)
        self._domain = settings.domain

    def claim_due(self, *, now: datetime, limit: int) -> list[KeptMoment]:
        """Moments whose time has come, taken by the caller."""
        return self._claimed(_waiting(now), now=now, limit=limit)

    def claim_begun(self, moment_ids: Collection[str], *, now: datetime) -> list[KeptMoment]:
        """Those of these that wait and are due, before it is everybody's turn to find them."""
        if not moment_ids:
            return []
        its = and_(
            moments.c.moment_id.in_(moment_ids), moments.c.state == "waiting", moments.c.due_at <= to_microseconds(now)
        )
        return self._claimed(its, now=now, limit=len(moment_ids))

    def claim_deliveries(self, target: str, *, now: datetime, limit: int) -> list[KeptMoment]:
        """Answers that go to this webhook now, taken by the caller."""
        its = and_(
            moments.c.state == "decided", moments.c.target == target, moments.c.next_at <= to_microseconds(now),
            moments.c.expires_at > to_microseconds(now),
        )  # fmt: skip
        return self._claimed(its, now=now, limit=limit)

    def let_through(self, asking: Sequence[Asking], *, now: datetime) -> set[str]:
        """Ids of those of which the person has not had the most yet; they count from here on."""
        if all(each.at_most is None for each in asking):
            return {each.moment.moment_id for each in asking}
        let: set[str] = set()
        with writing(self._engine) as connection:
            for moment, members, at_most in asking:
                if at_most is not None:
                    queries = _counts(self._domain, moment, members, at_most, now)
                    if sum(connection.execute(query).scalar_one() for query in queries) >= at_most.times:
                        continue
                    counts = update(moments).where(moments.c.moment_id == moment.moment_id)
                    connection.execute(counts.values(counted_at=to_microseconds(now)))
                let.add(moment.moment_id)
        return let

    def keep(self, changes: Sequence[Decided | Settled | Later], *, now: datetime) -> set[str]:
        """What became of claimed moments, in one commit; the ids of those that it changed.

        What was settled, or erased, meanwhile stays so.
        """
        changed: set[str] = set()
        if not changes:
            return changed
        with writing(self._engine) as connection:
            for change in changes:
                values, before = _change(change, now)
                query = update(moments).where(moments.c.moment_id == change.moment_id, moments.c.state.in_(before))
                if connection.execute(query.values(claimed_until=None, **values)).rowcount:
                    changed.add(change.moment_id)
        return changed

    def end_expired(self, *, now: datetime, limit: int) -> list[KeptMoment]:
        """End what nobody took in time, as `ended` or, where it should have been sent, `dead`."""
        with reading(self._engine) as connection:
            query = select(*_COLUMNS).where(self._expired(now)).order_by(moments.c.expires_at).limit(limit)
            found = [_kept(row) for row in connection.execute(query)]
        if not found:
            return []
        ended = []
        with writing(self._engine) as connection:
            for row in found:
                state: State = "ended" if row.target is None else "dead"
                query_one = update(moments).where(moments.c.moment_id == row.moment_id, self._expired(now))
                values = {"state": state, "reason": "EXPIRED", "settled_at": to_microseconds(now)}
                if connection.execute(query_one.values(values)).rowcount:
                    ended.append(row._replace(state=state, reason="EXPIRED"))
        return ended

    def hand_out(
        self, *, channel: str | None, market: str | None, limit: int, now: datetime, until: datetime
    ) -> list[KeptMoment]:
        """Answers that a channel fetches, those due for the longest first; not handed out again `until` then."""
        its = [
            moments.c.domain == self._domain, moments.c.state == "decided", moments.c.target.is_(None),
            moments.c.next_at <= to_microseconds(now), moments.c.expires_at > to_microseconds(now),
        ]  # fmt: skip
        its += [moments.c.channel == channel] if channel is not None else []
        its += [moments.c.market == market] if market is not None else []
        with reading(self._engine) as connection:
            query = select(*_COLUMNS).where(*its).order_by(moments.c.due_at, moments.c.moment_id).limit(limit)
            found = [_kept(row) for row in connection.execute(query)]
        return self._taken(found, and_(*its), {"next_at": to_microseconds(until)})

    def find(self, moment_id: str) -> KeptMoment | None:
        """The domain's moment with this id, or None."""
        with reading(self._engine) as connection:
            query = select(*_COLUMNS).where(moments.c.moment_id == moment_id, moments.c.domain == self._domain)
            row = connection.execute(query).first()
        return None if row is None else _kept(row)

    def newest(self, *, state: State | None, moment: str | None, limit: int) -> list[KeptMoment]:
        """Moments in this state, of this kind, or all; those that were due last first."""
        query = select(*_COLUMNS).where(moments.c.domain == self._domain)
        if state is not None:
            query = query.where(moments.c.state == state)
        if moment is not None:
            query = query.where(moments.c.moment == moment)
        with reading(self._engine) as connection:
            return [_kept(row) for row in connection.execute(query.order_by(moments.c.due_at.desc()).limit(limit))]

    def retry(self, moment_id: str, *, now: datetime) -> bool:
        """Let a dead letter be decided anew; whether it was one.

        Its place was given back, and what the customer allows may have changed: so it is another decision.
        """
        at = to_microseconds(now)
        query = update(moments).where(
            moments.c.moment_id == moment_id, moments.c.domain == self._domain, moments.c.state == "dead"
        )
        values = {
            "state": "waiting", "reason": None, "settled_at": None, "due_at": at, "next_at": at, "target": None,
            "attempts": 0, "expires_at": None, "decision_id": f"{decision_id_of(moment_id)}.{at}",
        }  # fmt: skip
        with writing(self._engine) as connection:
            return connection.execute(query.values(values)).rowcount == 1

    def open(self) -> list[Open]:
        """What has not ended yet, by state."""
        query = (
            select(moments.c.state, func.count(), func.min(moments.c.due_at))
            .where(moments.c.domain == self._domain, moments.c.state.in_(OPEN))
            .group_by(moments.c.state)
        )
        with reading(self._engine) as connection:
            return [Open(state, number, from_microseconds(due)) for state, number, due in connection.execute(query)]

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _claimed(self, its: ColumnElement[bool], *, now: datetime, limit: int) -> list[KeptMoment]:
        free = or_(moments.c.claimed_until.is_(None), moments.c.claimed_until <= to_microseconds(now))
        condition = and_(moments.c.domain == self._domain, its, free)
        with reading(self._engine) as connection:
            query = select(*_COLUMNS).where(condition).order_by(moments.c.next_at).limit(limit)
            found = [_kept(row) for row in connection.execute(query)]
        return self._taken(found, condition, {"claimed_until": to_microseconds(now + CLAIM)})

    def _taken(
        self, found: list[KeptMoment], condition: ColumnElement[bool], values: dict[str, Any]
    ) -> list[KeptMoment]:
        """Those of them of which the condition still holds, changed so that it does not any more."""
        if not found:
            return []
        with writing(self._engine) as connection:
            return [
                row
                for row in found
                if connection.execute(
                    update(moments).where(moments.c.moment_id == row.moment_id, condition).values(values)
                ).rowcount
            ]

    def _expired(self, now: datetime) -> ColumnElement[bool]:
        return and_(
            moments.c.domain == self._domain,
            moments.c.state == "decided",
            moments.c.expires_at <= to_microseconds(now),
            or_(moments.c.claimed_until.is_(None), moments.c.claimed_until <= to_microseconds(now)),
        )


def _waiting(now: datetime) -> ColumnElement[bool]:
    # With the target, which nothing that waits has, the index leads to what is due.
    return and_(moments.c.state == "waiting", moments.c.target.is_(None), moments.c.next_at <= to_microseconds(now))


def _counts(
    domain: str, moment: KeptMoment, members: Sequence[str], at_most: AtMost, now: datetime
) -> tuple[Select[int], Select[int]]:
    """How many others of this moment the person had, or is about to have, within the time: as customer, as visitor."""
    known = [member for member in members if not is_visitor(member)]
    visitors = [member.removeprefix(VISITOR) for member in members if is_visitor(member)]
    counted = select(func.count()).where(
        moments.c.domain == domain,
        moments.c.moment == moment.moment,
        moments.c.moment_id != moment.moment_id,
        moments.c.counted_at > to_microseconds(now - at_most.per),
        # Not by its index: that leads to everybody's.
        moments.c.state.concat("").in_((*OPEN, "delivered")),
    )
    return (
        counted.where(moments.c.customer_id.in_(known)),
        counted.where(moments.c.customer_id.is_(None), moments.c.anonymous_id.in_(visitors)),
    )


def _change(change: Decided | Settled | Later, now: datetime) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns to set, and the states in which they may be."""
    if isinstance(change, Later):
        return {"next_at": to_microseconds(change.next_at), "attempts": change.attempts}, OPEN
    if isinstance(change, Settled):
        settled = {"state": change.state, "reason": change.reason, "settled_at": to_microseconds(now)}
        return settled, OPEN if change.state == "ended" else ("decided",)
    decided = {
        **change._asdict(), "state": "decided", "expires_at": to_microseconds(change.expires_at),
        "next_at": to_microseconds(now),
    }  # fmt: skip
    del decided["moment_id"]
    return decided, ("waiting",)


def _kept(row: Any) -> KeptMoment:
    kept = KeptMoment._make(row)
    return kept._replace(
        occurred_at=from_microseconds(row.occurred_at),
        due_at=from_microseconds(row.due_at),
        next_at=from_microseconds(row.next_at),
        expires_at=None if row.expires_at is None else from_microseconds(row.expires_at),
    )
