"""Replay: a decision computed again from its record, its catalogue and the server's secret.

Facts are taken as they were logged: features, consents, contacts, stages' events, propensities (an
ensemble's, too), and what a shadow said. Everything else is worked out anew, by the functions that the
engine calls, and held against the record bit for bit.

What was available at the reservation hung on others as well. Replay works it out from the profile
that was read. Where the record has something else, others came between the read and the
reservation, or the record is not what was written, and nothing in it can tell which: availability
is then taken as logged, and the verdict says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning import decision as funnel
from decisioning.case import UNSCORED, Case, assigned, case_of, reason_of
from decisioning.catalog import Catalog
from decisioning.contact_history import ContactHistory
from decisioning.content import Action
from decisioning.content_types import Value
from decisioning.decision import Choice, Narrowed, Plan
from decisioning.encoding import RowEncoder
from decisioning.errors import RequestError, SetupError
from decisioning.profile import Facts
from decisioning.record import Candidate, DecisionRecord
from decisioning.reservation import take
from decisioning.scores import Scores
from decisioning.slots import fill_slots, key_id


class Difference(msgspec.Struct, frozen=True):
    """A place in the record where the replay says something else; None where one of them has nothing."""

    path: str
    was: Any
    now: Any = msgspec.field(name="is")


class Replayed(msgspec.Struct, frozen=True):
    """What came of a replay.

    Attributes:
        identical: Whether the record's bytes came out again; with `changed_meanwhile`, given the
            availability that it has.
        differences: Where they did not.
        changed_meanwhile: Availability at the reservation is not what the profile that was read
            implies, and was taken as logged; else it was worked out as well.
    """

    decision_id: str
    identical: bool
    differences: tuple[Difference, ...] = ()
    changed_meanwhile: bool = False

    @property
    def verdict(self) -> str:
        """In words; `identical` without more means that availability was worked out, too."""
        if not self.identical:
            return "NOT identical"
        if self.changed_meanwhile:
            return (
                "identical, given what was available at the reservation: something changed between read and reservation"
            )
        return "identical"


class _Unscored(Exception):
    """Actions are eligible now for which no propensity was logged."""


def replay(record: DecisionRecord, catalog: Catalog, *, key: bytes) -> Replayed:
    """Whether this record comes out again, bit for bit; what was available may be taken as logged (`Replayed`).

    `catalog` is the one that the record names, of its market; `key` is the secret that drew.

    Raises:
        SetupError: The catalogue or the secret is another one.
    """
    _check(record, catalog, key)
    try:
        facts = facts_of(record)
        case = assigned(recorded_case(record, catalog), facts)
    except RequestError as error:  # the funnel would not have taken what the record says was asked
        return Replayed(record.decision_id, False, (Difference("request", None, error.message),))
    narrowed = funnel.narrow(case, facts)
    try:
        choice = _choice(record, case, facts, narrowed, key)
    except _Unscored:
        was, now = ([c.action_id for c in record.candidates], [e.proposal.action.id for e in narrowed.eligible])
        found = (Difference("candidates", was, now), *differences(record.dropped, narrowed.dropped, "dropped"))
        return Replayed(record.decision_id, False, found)
    reservation = funnel.reservation(case, facts, choice.planned, digest="")
    logged = [slot.available for slot in record.slots]
    filled = take(reservation, reservation.seen)
    changed = [slot.available for slot in filled] != logged
    if changed:
        filled = fill_slots(reservation.order, reservation.slots, _as_logged(logged, len(choice.planned.candidates)))
    again = funnel.record_of(case, facts, choice, filled, model=record.model, key_id=key_id(key), shadow=record.shadow)
    if msgspec.json.encode(again) == msgspec.json.encode(record):
        return Replayed(record.decision_id, True, changed_meanwhile=changed)
    return Replayed(record.decision_id, False, tuple(differences(record, again)), changed)


def recorded_case(record: DecisionRecord, catalog: Catalog) -> Case:
    """The case that the record is of, under this catalogue.

    Raises:
        RequestError: The catalogue lacks a name that the request has.
    """
    case = case_of(
        catalog,
        record.request,
        decision_id=record.decision_id,
        draw_id=record.draw_id,
        now=record.decided_at,
        elsewhere=record.elsewhere,
    )
    return case._replace(unit=record.customer_id)  # whom the request named may have been known as that person


def facts_of(record: DecisionRecord) -> Facts:
    """What was known when the decision was made."""
    return Facts(
        features=record.features,
        account_id=record.account_id,
        account=record.account,
        hot=record.hot,
        paused=record.paused,
        overridden=record.overridden,
        as_of=record.features_as_of,
        known=record.known,
        readable=record.readable,
        personal=record.personal,
    )


def differences(was: Any, now: Any, path: str = "") -> Iterator[Difference]:
    """Every place where two records, or parts of them, are not the same to the bit.

    >>> list(differences({"a": (1.0, 2.0)}, {"a": (1.0, 2.5)}))
    [Difference(path='a[1]', was=2.0, now=2.5)]
    """
    if isinstance(was, msgspec.Struct) and type(was) is type(now):
        for name in was.__struct_fields__:
            yield from differences(getattr(was, name), getattr(now, name), f"{path}.{name}" if path else name)
    elif isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*was, *now)):
            yield from differences(was.get(name), now.get(name), f"{path}.{name}" if path else str(name))
    elif isinstance(was, list | tuple) and isinstance(now, list | tuple):
        for place in range(max(len(was), len(now))):
            before, after = (each[place] if place < len(each) else None for each in (was, now))
            yield from differences(before, after, f"{path}[{place}]")
    elif msgspec.json.encode(was) != msgspec.json.encode(now):
        yield Difference(path, msgspec.to_builtins(was), msgspec.to_builtins(now))


def _check(record: DecisionRecord, catalog: Catalog, key: bytes) -> None:
    if (catalog.version, catalog.content.market) != (record.catalog_version, record.market):
        raise SetupError(
            f"decision '{record.decision_id}' was made under catalogue {record.catalog_version}, market"
            f" {record.market}; this is {catalog.version}, market {catalog.content.market}"
        )
    if key_id(key) != record.key_id:
        raise SetupError(
            f"decision '{record.decision_id}' was drawn with the secret {record.key_id}, this one is {key_id(key)};"
            " set NEXTMOVE_DRAW_SECRET, or restore draw.key, to what it was then",
            where="draw_secret",
        )


def _choice(record: DecisionRecord, case: Case, facts: Facts, narrowed: Narrowed, key: bytes) -> Choice:
    reason = reason_of(case, facts, has_model=record.model is not None)
    if reason in UNSCORED:
        return Choice(narrowed, funnel.plan_fallback(case, narrowed, reason), reason)
    if not narrowed.has_choice:
        return Choice(narrowed, funnel.NOTHING, reason)
    return Choice(narrowed, _plan(record, case, narrowed, key), reason)


def _plan(record: DecisionRecord, case: Case, narrowed: Narrowed, key: bytes) -> Plan:
    logged = {candidate.action_id: candidate for candidate in record.candidates}
    found = [logged.get(eligible.proposal.action.id) for eligible in narrowed.eligible]
    candidates = [each for each in found if each is not None and each.propensity is not None]
    if len(candidates) < len(found):
        raise _Unscored
    return funnel.plan(case, narrowed, logged_scores(record, candidates), key=key)


def logged_scores(record: DecisionRecord, candidates: Sequence[Candidate]) -> Scores:
    """What model and posterior said of these candidates of the record, which were all scored."""
    shifted = any(each.score is not None for each in candidates)
    by_model = record.baseline is None and any(each.uplift is not None for each in candidates)
    sds = np.array([each.sd for each in candidates])
    members = np.array([each.members for each in candidates])
    return Scores(
        np.array([each.propensity if each.score is None else each.score for each in candidates], dtype=np.float64),
        record.baseline,
        np.array([each.uplift or 0.0 for each in candidates]) if by_model else None,
        np.array([each.shift for each in candidates]) if shifted else None,
        sds if sds.any() else None,
        record.posterior,
        members if members.size else None,
    )


def _as_logged(logged: Sequence[tuple[int, ...]], count: int) -> Any:
    """What was available after so many slots, as far as it can be.

    A place that no candidate has is nobody's, and what a slot could not get, later ones cannot.
    """

    def available_after(shown: tuple[int, ...]) -> list[int]:
        if len(shown) >= len(logged):
            return []
        possible = set(range(count)).difference(shown).intersection(*logged[: len(shown)])
        return [place for place in logged[len(shown)] if place in possible]

    return available_after


def model_rows(case: Case, facts: Facts, encoder: RowEncoder, actions: Sequence[Action]) -> NDArray[np.float32]:
    """What the model saw, or would have seen, of these actions: `(n_actions, n_features)`."""
    where: dict[str, Value] = {"placement": case.placement.id, "channel": case.placement.channel, "slot": 1}
    shared = {**case.request.context, **facts.features, **where}
    return encoder.rows(shared, actions, ContactHistory(facts.history, now=case.now))
