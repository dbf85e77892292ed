import math
from collections.abc import Sequence
from datetime import timedelta

import pytest

from decisioning.contact_history import HISTORY_FEATURES, NO_HISTORY, ContactHistory
from decisioning.content_types import NO_ACTION
from decisioning.profile import Contact
from tests.builders import NOW, action, contact

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def seen(contacts: Sequence[Contact], action_id: str = "card", group: str = "cards") -> dict[str, float]:
    """The history of an action, without what is nothing."""
    values = ContactHistory(contacts, now=NOW).of(action(action_id, group=group))
    found = dict(zip(HISTORY_FEATURES, values, strict=True))
    return {name: value for name, value in found.items() if value and not math.isnan(value)}


def test_contacts_count_for_their_action_its_group_and_at_all() -> None:
    contacts = [contact("card", ago=2 * DAY), contact("gold", ago=3 * HOUR)]
    everything = {"contacts_1d": 1, "contacts_7d": 2, "contacts_30d": 2, "hours_since_contact": 3.0}
    of_group = {
        "group_contacts_1d": 1,
        "group_contacts_7d": 2,
        "group_contacts_30d": 2,
        "hours_since_group_contact": 3.0,
    }
    of_card = {"action_contacts_7d": 1, "action_contacts_30d": 1, "hours_since_action_contact": 48.0}
    assert seen(contacts) == everything | of_group | of_card
    assert seen(contacts, "silver") == everything | of_group
    assert seen(contacts, "card", "loans") == everything


@pytest.mark.parametrize(("days", "name"), [(1, "contacts_1d"), (7, "contacts_7d"), (30, "contacts_30d")])
def test_a_contact_exactly_as_old_as_a_window_no_longer_counts_in_it(days: int, name: str) -> None:
    assert name not in seen([contact(ago=days * DAY)])
    assert seen([contact(ago=days * DAY - timedelta(microseconds=1))])[name] == 1


def test_rejections_count_for_what_was_rejected() -> None:
    contacts = [contact(rejected_at=NOW - HOUR), contact("gold")]
    assert seen(contacts)["action_rejects_30d"] == 1
    assert seen(contacts, "gold")["group_rejects_30d"] == 1
    assert "action_rejects_30d" not in seen(contacts, "gold")


def test_what_is_planned_and_what_showed_nothing_is_no_contact() -> None:
    assert seen([contact(ago=-HOUR), contact(NO_ACTION, group="cards")]) == {}


def test_who_was_never_contacted_has_no_history() -> None:
    found = ContactHistory([], now=NOW).of(action("card"))
    assert len(found) == len(NO_HISTORY) == len(HISTORY_FEATURES)
    assert str(found) == str(NO_HISTORY)
