"""Continuity: what was shown stays the choice, on every channel, until something ends it.

An outcome ends it (accepted, rejected, bought), a rule that no longer holds, a contact policy, or
the time. An accepted action makes way for its declared follow-up.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from decisioning.content import Action
from decisioning.profile import Contact


class Continuity(NamedTuple):
    """What goes on from earlier decisions.

    Attributes:
        order: Actions that come before all others, first first.
        repeats: Of these, those whose contact here is still the same one: asked again before its
            answer ran out, they are no new contact. With the decision that made the contact.
        followed_up: Accepted actions that make way, each with its follow-up.
    """

    order: tuple[str, ...] = ()
    repeats: Mapping[str, str] = {}
    followed_up: Mapping[str, str] = {}


NOTHING_OPEN = Continuity()


def going_on(
    contacts: Sequence[Contact],
    actions: Mapping[str, Action],
    placement_id: str,
    *,
    now: datetime,
    lasting: timedelta,
    repeatable: bool = True,
) -> Continuity:
    """What goes on for a customer with these contacts (oldest first, of one instant by slot).

    What is planned for later was not shown yet. `repeatable` is whether an answer can be asked for
    again here: what is sent is another message each time.

    >>> seen = Contact("card", "cards", "web", datetime(2026, 1, 1), placement="hero", until=datetime(2026, 1, 1, 1))
    >>> going_on([seen], {}, "inbox", now=datetime(2026, 1, 3), lasting=timedelta(days=3)).order
    ('card',)
    >>> going_on([seen], {}, "inbox", now=datetime(2026, 1, 4), lasting=timedelta(days=3)).order
    ()
    """
    begin = now - lasting
    recent = [c for c in contacts if c.at <= now and (begin < c.at or (c.until and now < c.until))]
    if not recent and not any(contact.accepted_at for contact in contacts):
        return NOTHING_OPEN
    order: list[str] = []
    repeats: dict[str, str] = {}
    followed_up: dict[str, str] = {}
    answered = _last_answers(contacts)
    accepted = [c for c in contacts if c.accepted_at is not None and now - c.accepted_at < lasting]
    for contact in sorted(accepted, key=lambda c: c.accepted_at or c.at, reverse=True):
        action = actions.get(contact.action_id)
        follow_up = action.follow_up if action is not None else None
        if follow_up is not None:
            followed_up[contact.action_id] = follow_up
            if follow_up not in order and not _is_over(answered, follow_up, contact.accepted_at or contact.at):
                order.append(follow_up)
    # The newest first; of one answer, in the order of its slots. A reload gives what stood here, even
    # where another placement has shown something else since.
    open_ones: list[str] = []
    for contact in _newest_first(recent):
        if contact.action_id in followed_up or _is_over(answered, contact.action_id, contact.at):
            continue
        if repeatable and contact.placement == placement_id and contact.until is not None and now < contact.until:
            repeats.setdefault(contact.action_id, contact.decision_id)
        elif contact.is_counted and now - contact.at < lasting:
            open_ones.append(contact.action_id)
    order += [action_id for action_id in dict.fromkeys((*repeats, *open_ones)) if action_id not in order]
    return Continuity(tuple(order), repeats, followed_up)


def _newest_first(contacts: Sequence[Contact]) -> list[Contact]:
    order = sorted(range(len(contacts)), key=lambda place: (contacts[place].at, -place), reverse=True)
    return [contacts[place] for place in order]


def _last_answers(contacts: Sequence[Contact]) -> dict[str, datetime]:
    """When each action was last accepted or rejected."""
    last: dict[str, datetime] = {}
    for contact in contacts:
        for at in (contact.accepted_at, contact.rejected_at):
            if at is not None and (contact.action_id not in last or last[contact.action_id] < at):
                last[contact.action_id] = at
    return last


def _is_over(answered: Mapping[str, datetime], action_id: str, since: datetime) -> bool:
    """Whether the customer answered this action at or after a time."""
    at = answered.get(action_id)
    return at is not None and at >= since
