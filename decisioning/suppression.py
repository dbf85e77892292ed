"""Contact policy and budget: what was enough, what is too late or too early, and what is spent.

The last steps of narrowing. What is not known here (hot state or the feature store cannot be read)
counts as reached and as spent.
"""

from collections.abc import Mapping, Sequence

import msgspec

from decisioning.budget import BudgetRoom
from decisioning.case import Case
from decisioning.catalog import Eligible
from decisioning.contact_policy import ContactCounts, Suppression, cooling_down
from decisioning.content import ContactPolicy
from decisioning.content_types import CountedPer
from decisioning.profile import Facts, HotProfile
from decisioning.quiet_hours import TIME_ZONE_FEATURE, applies_to, quiet_at, zone_of
from decisioning.reasons import Drop


def in_time_and_budget(
    case: Case, facts: Facts, engaged: Sequence[Eligible], counts: ContactCounts, dropped: list[Drop]
) -> list[Eligible]:
    """Contact policies and budgets; the same answer asked for again meets neither caps nor budgets."""
    catalog, hot = case.catalog, facts.hot
    content = catalog.content
    quiet = _quiet(case, facts)
    # What colleagues were shown, and what the account has spent, is not known of a customer whose account is not.
    of_account = [] if facts.account_known else [cap for cap in content.contact_policies if cap.of == "account"]
    profile = hot or HotProfile()
    silent = cooling_down(content.cool_downs, profile.contacts, now=case.contact_at) if content.cool_downs else {}
    capped = _first_caps(case, counts)
    wish = _own_wish(case, profile)
    each_is_asked = bool(quiet or wish or hot is None or of_account or silent)
    if not (each_is_asked or capped or catalog.budgets):
        return list(engaged)
    kept: list[Eligible] = []
    room = BudgetRoom(catalog.budgets, profile, now=case.contact_at)
    for candidate in engaged:
        action = candidate.proposal.action
        if not each_is_asked and action.budget is None and action.id not in capped:
            kept.append(candidate)
            continue
        if action.is_no_action:
            kept.append(candidate)
            continue
        repeated = candidate.repeats is not None
        refusal: tuple[str, str] | None = None
        if quiet is not None:
            refusal = "QUIET_HOURS", quiet
        elif wish is not None:
            refusal = "CAP_REACHED", wish
        elif hot is None and (_capped(content.contact_policies, candidate) or content.cool_downs):
            refusal = "CONTACTS_UNKNOWN", "hot state cannot be read"
        elif of_account and _capped(of_account, candidate):
            refusal = "CONTACTS_UNKNOWN", "the feature store, which knows the customer's account, cannot be read"
        elif action.id in capped and not repeated:
            refusal = "CAP_REACHED", catalog.caps.said[catalog.caps[capped[action.id]].id]
        elif silent and (suppression := _silenced(silent, candidate.proposal.counted_by)):
            until = suppression.until.isoformat(timespec="minutes")
            refusal = "COOL_DOWN", f"{suppression.cool_down.id}: after {suppression.cool_down.after}, until {until}"
        if refusal is not None:
            dropped.append(Drop(action.id, "contact_policy", *refusal))
        elif action.budget is None or repeated:
            kept.append(candidate)
        elif hot is None:
            dropped.append(Drop(action.id, "budget", "BUDGET_UNKNOWN", "hot state cannot be read"))
        elif not facts.account_known and catalog.budgets[action.budget].of == "account":
            detail = "the feature store, which knows the customer's account, cannot be read"
            dropped.append(Drop(action.id, "budget", "BUDGET_UNKNOWN", detail))
        elif room.fits(action.budget, candidate.proposal.cost):
            kept.append(candidate)
        else:
            detail = f"{action.budget}: {room.left(action.budget):g} left of what is released by now"
            dropped.append(Drop(action.id, "budget", "BUDGET_SPENT", detail))
    return kept


def _first_caps(case: Case, counts: ContactCounts) -> dict[str, int]:
    """Actions that a contact policy forbids, with the place of the first that does."""
    counting_as = case.catalog.offered(case.placement).counting_as
    capped: dict[str, int] = {}
    for counted, place in counts.reached.items():
        for action_id in counting_as.get(counted, ()):
            capped[action_id] = min(place, capped.get(action_id, place))
    return capped


def _quiet(case: Case, facts: Facts) -> str | None:
    """Why it is too late or too early for a contact; None where it is not."""
    quiet_hours = case.catalog.content.quiet_hours
    if not quiet_hours:
        return None
    if not facts.readable and TIME_ZONE_FEATURE in facts.features and TIME_ZONE_FEATURE not in facts.overridden:
        applying = [q for q in quiet_hours if applies_to(q, case.placement)]
        return f"{applying[0].id}: the customer's time zone cannot be read" if applying else None
    zone = zone_of(facts.features.get(TIME_ZONE_FEATURE), case.catalog.time_zone)
    quiet = quiet_at(quiet_hours, case.placement, case.contact_at, zone)
    return f"{quiet.id}: {quiet.begin} to {quiet.end} on the customer's clock" if quiet else None


def _own_wish(case: Case, profile: HotProfile) -> str | None:
    """Why the customer does not want another message yet; of placements that are not sent, never.

    Several actions of one message are one. A message exactly one window old no longer counts.
    """
    frequency = profile.preferences.frequency if profile.preferences else None
    if frequency is None or not case.placement.is_push:
        return None
    push, begin, end = case.catalog.push, case.contact_at - frequency.within, case.contact_at + frequency.within
    sent = {
        contact.decision_id
        for contact in profile.contacts
        if contact.is_counted and contact.placement in push and begin < contact.at < end
    }
    if len(sent) < frequency.limit:
        return None
    within = msgspec.to_builtins(frequency.within)
    return f"preferences: the customer wishes for at most {frequency.limit} messages within {within}"


def _capped(policies: Sequence[ContactPolicy], candidate: Eligible) -> bool:
    return any(policy.only in (None, candidate.proposal.counted_by[policy.per]) for policy in policies)


def _silenced(
    silent: Mapping[tuple[CountedPer, str], Suppression], counted_by: Mapping[CountedPer, str]
) -> Suppression | None:
    return next((silent[item] for item in counted_by.items() if item in silent), None)
