"""What changes Redis's hot state, as commands: live and when it is rebuilt."""

from collections.abc import Iterable, Iterator, Sequence

from decisioning.errors import StoreError
from decisioning.events import Happened
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange
from decisioning.record import Told
from storage.hot_state.effects import LIFTS, Effect
from storage.hot_state.redis_budgets import settled_command
from storage.hot_state.redis_connection import Command
from storage.hot_state.redis_scripts import APPLY, CLEAR, CONSENT, HAPPEN
from storage.hot_state.redis_values import (
    ANSWERS,
    PREFERENCES,
    Keys,
    Settlement,
    consent_field,
    contact_field,
    instant,
    member_prefix,
    preferences_value,
    suppression_field,
)


def apply_command(keys: Keys, told: Told, effect: Effect) -> Command:
    """What lets Redis apply an outcome."""
    customer_id = told.subject.customer_id
    withdrawn = (suppression_field(told.channel), consent_field(LIFTS, told.channel)) if effect.suppresses else ("", "")
    contacts = [contact_field(decision_id, action_id) for decision_id, action_id in told.contacts]
    latest = [f"p{product}" for product in effect.products] + [f"e{event}" for event in effect.events]
    return (
        "EVALSHA", APPLY.sha, 1, keys.customer(customer_id),
        {"confirmed": "c", "released": "x", None: ""}[effect.state],
        0 if effect.answered is None else ANSWERS[effect.answered],
        instant(told.outcome.occurred_at), keys.accounts, "}", member_prefix(customer_id), *withdrawn,
        len(contacts), *contacts, *latest,
    )  # fmt: skip


def cleared_commands(keys: Keys, customer_id: str, settled: Sequence[Settlement]) -> list[Command]:
    """What notes in contacts that their budgets have heard, and then lets the budgets forget that they did."""
    said = [part for each in settled for part in (each.field, each.state)]
    clear: Command = ("EVAL", CLEAR.source, 1, keys.customer(customer_id), *said)
    return [clear, *(settled_command(keys, each) for each in settled)]


def consent_command(keys: Keys, change: ConsentChange) -> Command:
    """What lets Redis take a customer's word."""
    if change.purpose is None or change.channel is None:
        raise StoreError(f"a consent of customer '{change.customer_id}' names no purpose or channel")
    word = (consent_field(change.purpose, change.channel), int(change.granted), instant(change.at))
    return "EVALSHA", CONSENT.sha, 1, keys.customer(change.customer_id), *word


def preferences_command(keys: Keys, change: PreferencesChange) -> Command:
    """What lets Redis take a customer's wishes, unless later ones stand."""
    return "EVALSHA", HAPPEN.sha, 1, keys.customer(change.customer_id), PREFERENCES, preferences_value(change)


def happened_commands(keys: Keys, happened: Iterable[Happened]) -> Iterator[Command]:
    """What lets Redis know of what customers did: one command a customer."""
    by_unit: dict[str, list[str]] = {}
    for each in happened:
        at = instant(each.at)
        said = by_unit.setdefault(each.unit, [])
        for field in (f"e{each.name}", *(f"p{product}" for product in each.products)):
            said += (field, at)
    for unit, said in by_unit.items():
        yield "EVALSHA", HAPPEN.sha, 1, keys.customer(unit), *said
