"""What is wrong with a catalogue's content: references, contradictions, names, approvals.

Everything that a type cannot say. Rules are checked where they are compiled (`catalog`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

from decisioning.catalog_findings import ENTRIES, Findings
from decisioning.content import (
    Action,
    Approver,
    Content,
    Naming,
)
from decisioning.content_types import CONTACT_MEMORY, EVENT_MEMORY, LONGEST_DELAY, NO_ACTION, CountedPer
from decisioning.event_content import EventFeature, name_of
from decisioning.events import EventType
from decisioning.experiment_checks import experiment_mistakes
from decisioning.exploration import BootstrapThompson
from decisioning.outcome_types import EVENT_TYPES, OUTCOME_TYPES
from decisioning.vocabulary import Vocabulary

_NEVER_A_MARKETS = ("domain", "market", "market_currency", "locked", "fairness", "hooks", "event_features", "features")
_EVENT_NAME = re.compile("[a-z][a-z0-9_]*")
_FORETOLD = re.compile(r"\bcustomer\s*\.\s*chance_of_")
SHORTEST_PERIOD = timedelta(minutes=1)
SHORTEST_HORIZON, LONGEST_HORIZON = timedelta(days=1), timedelta(days=365)
LONGEST_AT_MOST = timedelta(days=365)
# Called by their type, since they have no name of their own.
_NOT_TRACKED = tuple(kind for kind in get_args(EventType) if kind != "track")
# A feature is `customer.<name>` in rules, which CEL reads as a name followed by one of its own words here.
_TAKEN = ("customer_id", "event_timestamp", "created_timestamp")  # by the feature store
_NAMEABLE = re.compile(r"(?!(?:in|true|false|null)$)[A-Za-z_][A-Za-z0-9_]*")


def mistakes(content: Content) -> list[str]:
    """Every mistake, each with its path, like `actions[gold_card].group: ...`."""
    findings = Findings(content)
    for kind in ENTRIES:
        findings.unique(kind, findings.ids[kind])
    checks: tuple[Callable[[Findings], None], ...] = (
        _market, _naming, _placements, _actions, _approvals, _budgets, _contact_policies, _cool_downs, _quiet_hours,
        _journeys, _audiences, _sources, _hooks, _moments, experiment_mistakes, _event_features, _fairness,
    )  # fmt: skip
    for check in checks:
        check(findings)
    return findings.found


def _market(f: Findings) -> None:
    content = f.content
    try:
        ZoneInfo(content.time_zone)
    except Exception:  # what it raises depends on how the name is wrong
        f.add("time_zone", f"'{content.time_zone}' is not a time zone, write it like Europe/Berlin")
    if content.market_currency not in (None, content.currency, *content.rates):
        f.add(
            "currency",
            f"is {content.market_currency}, and rates does not say what one unit of it is worth in {content.currency}",
        )
    if content.continuity < timedelta(0) or content.continuity > CONTACT_MEMORY:
        f.add("continuity", f"is {content.continuity}, must be at least 0 and at most {CONTACT_MEMORY}")
    for topic in content.topics or ():
        f.refer("topics", topic, content.groups)
    for path in content.locked:
        _lock(f, path)


def _lock(f: Findings, path: str) -> None:
    """A lock that can never meet an override would be a silent gap."""
    kind, _, inside = path.partition(".")
    if kind not in Content.__struct_fields__ or kind in _NEVER_A_MARKETS:
        f.add("locked", f"'{path}' is no path that a market can override; write it like actions.*.eligibility")
    elif kind in ENTRIES and inside:
        ids = ("*", *f.ids[kind])
        entry = next((name for name in ids if inside == name or inside.startswith(f"{name}.")), None)
        field = "" if entry is None else inside[len(entry) + 1 :].split(".")[0]
        if entry is None:
            f.add("locked", f"'{path}' names no entry of {kind}, must be one of {', '.join(ids)}")
        elif field and field not in ENTRIES[kind].__struct_fields__:
            allowed = ", ".join(ENTRIES[kind].__struct_fields__)
            f.add("locked", f"'{path}' names no field of {kind}, must be one of {allowed}")


def _naming(f: Findings) -> None:
    for kind in Naming.__struct_fields__:
        pattern = getattr(f.content.naming, kind)
        try:
            rule = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            f.add(f"naming.{kind}", f"'{pattern}' is not a regular expression: {error}")
            continue
        for name in f.ids[kind]:
            if not rule.fullmatch(name):
                f.add(f"{kind}[{name}].id", f"does not follow the naming rule {pattern}")


def _placements(f: Findings) -> None:
    for placement in f.content.placements:
        path = f"placements[{placement.id}]"
        f.refer(f"{path}.channel", placement.channel, f.ids["channels"])
        f.longer_than_nothing(f"{path}.time_out", placement.time_out, at_most=CONTACT_MEMORY)
        f.longer_than_nothing(f"{path}.attribution_window", placement.attribution_window)
        for outcome in placement.reward:
            f.refer(f"{path}.reward", outcome, OUTCOME_TYPES)
        if isinstance(placement.exploration, BootstrapThompson) and not placement.is_push:
            f.add(
                f"{path}.exploration.policy",
                "is bootstrap_thompson, whose ensemble takes too long while somebody waits; it must be another where"
                " shown_by is not 'sent', and thompson explores by doubt, too",
            )


def _actions(f: Findings) -> None:
    content = f.content
    features = content.rule_features()
    follow_ups = {action.id: (action.follow_up,) for action in content.actions if action.follow_up is not None}
    stages = [stage.id for journey in content.journeys for stage in journey.stages]
    placement_channels = {placement.id: placement.channel for placement in content.placements}
    for action in content.actions:
        path = f"actions[{action.id}]"
        f.refer(f"{path}.group", action.group, content.groups)
        f.refer(f"{path}.goal", action.goal, content.goals)
        f.unique(f"{path}.treatments", [treatment.id for treatment in action.treatments])
        served: list[tuple[str, str]] = []
        for treatment in action.treatments:
            inner = f"{path}.treatments[{treatment.id}]"
            f.refer(f"{inner}.channel", treatment.channel, f.ids["channels"])
            for placement_id in treatment.placements:
                f.refer(f"{inner}.placements", placement_id, f.ids["placements"])
                if placement_channels.get(placement_id, treatment.channel) != treatment.channel:
                    f.add(f"{inner}.placements", f"{placement_id} is not on channel {treatment.channel}")
            served += [(treatment.channel, placement_id) for placement_id in treatment.placements or ("*",)]
        for channel, placement_id in sorted({item for item in served if served.count(item) > 1}):
            where = f"channel {channel}" if placement_id == "*" else f"placement {placement_id}"
            f.add(f"{path}.treatments", f"two are for {where}; there must be one")
        _validity(f, path, action)
        if action.again_after is not None:
            f.longer_than_nothing(f"{path}.again_after", action.again_after)
            if not action.promotes:
                f.add(f"{path}.again_after", "says when a product may be offered again, but `promotes` names none")
        for name in sorted(set(action.attributes) & {"action_id", "group", "goal", "value"}):
            f.add(f"{path}.attributes.{name}", "the name is taken, choose another")
        if action.is_no_action and action.treatments:
            f.add(f"{path}.treatments", f"{NO_ACTION} shows nothing, so it has no treatments")
        for stage in action.stages:
            f.refer(f"{path}.stages", stage, stages)
        if action.budget is not None:
            f.refer(f"{path}.budget", action.budget, f.ids["budgets"])
        if action.asks is not None:
            f.refer(f"{path}.asks.channel", action.asks.channel, f.ids["channels"])
        if action.buying_roles and features is not None and "buying_role" not in features.customer:
            f.add(f"{path}.buying_roles", "needs a customer feature buying_role, and there is none")
        if action.follow_up is not None:
            f.refer(f"{path}.follow_up", action.follow_up, f.ids["actions"])
            if action.id in _reachable(follow_ups, action.id):
                f.add(f"{path}.follow_up", "leads back to the action itself")
        if action.rank_by == "uplift" and NO_ACTION not in f.ids["actions"]:
            f.add(f"{path}.rank_by", f"uplift is over showing nothing: the catalogue needs an action {NO_ACTION}")
        if action.currency not in (None, content.currency, *content.rates):
            f.add(f"{path}.currency", f"rates lacks {action.currency}: what one unit is worth in {content.currency}")


def _validity(f: Findings, path: str, action: Action) -> None:
    f.zoned(f"{path}.valid_from", action.valid_from)
    f.zoned(f"{path}.valid_until", action.valid_until)
    both = action.valid_from, action.valid_until
    if all(at is not None and at.tzinfo is not None for at in both) and both[0] >= both[1]:  # type: ignore[operator]
        f.add(f"{path}.valid_until", "is not after valid_from")


def _approvals(f: Findings) -> None:
    content = f.content
    if not content.approvers:
        return  # whoever may change the files may also approve
    for place, approver in enumerate(content.approvers):
        path = f"approvers[{place}]"
        for group in approver.groups:
            f.refer(f"{path}.groups", group, content.groups)
        for channel in approver.channels:
            f.refer(f"{path}.channels", channel, f.ids["channels"])
        for budget in approver.budgets:
            f.refer(f"{path}.budgets", budget, f.ids["budgets"])
    for action in content.actions:
        if action.status not in ("approved", "live"):
            continue
        path = f"actions[{action.id}].approved_by"
        entitled = sorted({a.person for a in content.approvers if may_approve(a, action, market=content.market)})
        who = ", ".join(person for person in entitled if person != action.owner) or "(nobody: see approvers)"
        if action.approved_by is None:
            f.add(path, f"is missing, and status is {action.status}; must be one of {who}")
        elif action.approved_by == action.owner:
            f.add(path, f"is {action.owner}, who owns it; nobody approves what is their own; must be one of {who}")
        elif action.approved_by not in entitled:
            f.add(path, f"is {action.approved_by}, who may not approve this; must be one of {who}")


def may_approve(approver: Approver, action: Action, *, market: str) -> bool:
    """Whether this person may approve this action here: its market, group, every channel, and budget.

    >>> may_approve(Approver(person="p", groups=("g",)), Action(id="a", name="A", group="g", goal="o"), market="de")
    True
    """

    def covers(allowed: tuple[str, ...], asked: Iterable[str]) -> bool:
        return not allowed or set(asked) <= set(allowed)

    return (
        covers(approver.markets, [market])
        and covers(approver.groups, [action.group])
        and covers(approver.channels, [treatment.channel for treatment in action.treatments])
        and covers(approver.budgets, [action.budget] if action.budget else [])
    )


def _budgets(f: Findings) -> None:
    for budget in f.content.budgets:
        path = f"budgets[{budget.id}]"
        limit = CONTACT_MEMORY if budget.of != "everyone" else None
        f.longer_than_nothing(f"{path}.period", budget.period, at_most=limit)
        if timedelta(0) < budget.period < SHORTEST_PERIOD:
            f.add(f"{path}.period", f"is {budget.period}, must be at least {SHORTEST_PERIOD}: hot state keeps each")
        f.zoned(f"{path}.starts", budget.starts)


def _counted(f: Findings, path: str, per: CountedPer, only: str | None) -> None:
    if only is not None:
        allowed: dict[str, Any] = {
            "any": (),
            "channel": f.ids["channels"],
            "group": f.content.groups,
            "goal": f.content.goals,
            "action": f.ids["actions"],
        }
        assert set(allowed) == set(get_args(CountedPer))
        f.refer(f"{path}.only", only, allowed[per])


def _contact_policies(f: Findings) -> None:
    for policy in f.content.contact_policies:
        path = f"contact_policies[{policy.id}]"
        f.longer_than_nothing(f"{path}.within", policy.within, at_most=CONTACT_MEMORY)
        _counted(f, path, policy.per, policy.only)


def _cool_downs(f: Findings) -> None:
    for cool_down in f.content.cool_downs:
        path = f"cool_downs[{cool_down.id}]"
        f.longer_than_nothing(f"{path}.lasting", cool_down.lasting, at_most=CONTACT_MEMORY)
        _counted(f, path, cool_down.per, cool_down.only)


def _quiet_hours(f: Findings) -> None:
    for quiet in f.content.quiet_hours:
        path = f"quiet_hours[{quiet.id}]"
        if quiet.begin == quiet.end:
            f.add(f"{path}.end", f"is {quiet.end}, as begin; a whole day is 00:00 to 24:00")
        for channel in quiet.channels:
            f.refer(f"{path}.channels", channel, f.ids["channels"])


def _journeys(f: Findings) -> None:
    vocabulary = Vocabulary(f.content.sources)
    all_stages = [stage.id for journey in f.content.journeys for stage in journey.stages]
    f.unique("journeys.stages", all_stages)
    for journey in f.content.journeys:
        path = f"journeys[{journey.id}]"
        stages = [stage.id for stage in journey.stages]
        if journey.horizon is not None and not SHORTEST_HORIZON <= journey.horizon <= LONGEST_HORIZON:
            f.add(f"{path}.horizon", f"is {journey.horizon.days} days, must be 1 to {LONGEST_HORIZON.days}")
        for stage in journey.stages:
            if journey.horizon is not None and not _NAMEABLE.fullmatch(stage.id):
                said = "is foretold, so rules must be able to name it: letters, digits and _ only"
                f.add(f"{path}.stages[{stage.id}].id", said)
            for part in ("entry", "exit"):
                if _FORETOLD.search(getattr(stage, part)):
                    said = "names a chance that is foretold from the stages; a stage may not depend on it"
                    f.add(f"{path}.stages[{stage.id}].{part}", said)
            for name in stage.weights:
                f.refer(f"{path}.stages[{stage.id}].weights", name, (*f.ids["actions"], *f.content.groups))
        for place, transition in enumerate(journey.transitions):
            inner = f"{path}.transitions[{place}]"
            f.refer(f"{inner}.source", transition.source, stages)
            f.refer(f"{inner}.target", transition.target, stages)
            kind, colon, action = transition.on.partition(":")
            # Of one action there are outcomes alone; what happens elsewhere is about none.
            f.refer(f"{inner}.on", kind, EVENT_TYPES if colon else (*EVENT_TYPES, *vocabulary.names))
            if colon:
                f.refer(f"{inner}.on", action, f.ids["actions"])
            if any(other.on == transition.on and other.source == transition.target for other in journey.transitions):
                f.add(
                    f"{inner}.on",
                    f"'{transition.on}' leads to {transition.target} and on from there, but of an event only the last"
                    " time is known; name the event of one action, like purchase:winter_coat",
                )


def _sources(f: Findings) -> None:
    reserved = {name for name in OUTCOME_TYPES if name not in ("purchase", "custom")}
    for source in f.content.sources:
        path = f"sources[{source.id}]"
        if source.currency not in (None, f.content.currency, *f.content.rates):
            f.add(f"{path}.currency", f"rates lacks {source.currency}: what one unit is worth in {f.content.currency}")
        for said, name in source.events.items():
            if name in reserved:
                f.add(
                    f"{path}.events", f"'{said}' is called {name}, which only outcomes of decisions are; choose another"
                )
            elif not _EVENT_NAME.fullmatch(name):
                f.add(f"{path}.events", f"'{said}' is called '{name}', must be small letters, digits and underscores")
            if said in source.ignored:
                f.add(f"{path}.ignored", f"'{said}' has a meaning in events too; leave it out of one of them")


def _hooks(f: Findings) -> None:
    for hook in f.content.hooks:
        path = f"hooks[{hook.id}]"
        if (hook.verify.header is not None) != (hook.format == "custom"):
            said = "is missing; a custom hook" if hook.format == "custom" else f"is not for `{hook.format}`, which"
            rest = "says where it sends its signature" if hook.format == "custom" else "has its own; take it out"
            f.add(f"{path}.verify.header", f"{said} {rest}")
        f.longer_than_nothing(f"{path}.verify.tolerance", hook.verify.tolerance, at_most=timedelta(days=1))
        if hook.format == "custom" and not hook.events:
            f.add(f"{path}.events", "is missing; nobody knows what a custom hook calls its events")
        for said, event in hook.events.items():
            if event.detail in ("hard", "soft") and event.type != "bounce":
                f.add(f"{path}.events", f"'{said}' is {event.type} with detail {event.detail}, which is for a bounce")


def _moments(f: Findings) -> None:
    names = Vocabulary(f.content.sources).names
    for moment in f.content.moments:
        path = f"moments[{moment.id}]"
        told = (
            (f"{path}.event", moment.event, _NOT_TRACKED),
            *((f"{path}.unless", n, EVENT_TYPES) for n in moment.unless),
        )
        for inner, name, also in told:
            if name not in names and name not in also:
                f.add(
                    inner,
                    f"no event is called '{name}'; say in `sources` what a source calls it, or name one of"
                    f" {', '.join(sorted({*names, *also}))}",
                )
        f.refer(f"{path}.placement", moment.placement, f.ids["placements"])
        if not timedelta(0) <= moment.delay <= LONGEST_DELAY:
            f.add(f"{path}.delay", f"is {moment.delay}, must be at least 0 and at most {LONGEST_DELAY}")
        f.longer_than_nothing(f"{path}.expires", moment.expires, at_most=LONGEST_DELAY)
        if moment.at_most is not None:
            f.longer_than_nothing(f"{path}.at_most.per", moment.at_most.per, at_most=LONGEST_AT_MOST)


def _audiences(f: Findings) -> None:
    excluded = {audience.id: audience.exclusions for audience in f.content.audiences}
    for audience in f.content.audiences:
        path = f"audiences[{audience.id}]"
        for name in audience.exclusions:
            f.refer(f"{path}.exclusions", name, f.ids["audiences"])
        for channel in audience.minimum_size:
            f.refer(f"{path}.minimum_size", channel, f.ids["channels"])
        if audience.id in _reachable(excluded, audience.id):
            f.add(f"{path}.exclusions", "leads back to the audience itself")


def _reachable(edges: Mapping[str, tuple[str, ...]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges.get(name, ())
    return seen


def _event_features(f: Findings) -> None:
    stored = {} if f.content.features is None else f.content.features.customer
    first: dict[str, str] = {}
    for feature in f.content.event_features:
        path = f"event_features[{feature.id}]"
        _event_feature(f, path, feature)
        for name in dict.fromkeys(each.name for each in feature.derived()):
            other = first.setdefault(name, feature.id)
            if other != feature.id:
                f.add(path, f"gives a feature {name}, and so does event_features[{other}]; give it another id")
            if name in stored or name in _TAKEN:
                f.add(path, f"gives a feature {name}, and the feature store has one too; give it another id")
            if not _NAMEABLE.fullmatch(name):
                f.add(path, f"gives a feature '{name}', which rules cannot name; use letters, digits and '_' alone")


def _event_feature(f: Findings, path: str, feature: EventFeature) -> None:
    takes = {"of": feature.compute in ("sum", "last"), "windows": feature.compute in ("count", "sum")}
    for name, needed in takes.items():
        if bool(getattr(feature, name)) != needed:
            said = "is missing; `{}` needs it" if needed else "is not for `{}`; take it out"
            f.add(f"{path}.{name}", said.format(feature.compute))
    if feature.of is not None and feature.of.startswith("products."):
        f.add(f"{path}.of", f"is '{feature.of}', which each line of an order has; name a property of the whole event")
    if feature.kind is not None and feature.compute != "last":
        f.add(f"{path}.kind", f"is not for `{feature.compute}`, which is a number; take it out")
    if bool(feature.by) != bool(feature.values):
        missing = "values" if feature.by else "by"
        f.add(f"{path}.{missing}", "is missing; `by` names a property, and `values` those of its values that count")
    for window in feature.windows:
        f.longer_than_nothing(f"{path}.windows", window, at_most=EVENT_MEMORY)
        if window % SHORTEST_PERIOD:
            f.add(f"{path}.windows", f"is {window}, must be whole minutes")
    names = [each.name for each in feature.derived()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        f.add(path, f"gives the feature {name} twice; its windows and the names of its values must differ")
    for value in feature.values:
        if not name_of(value):
            f.add(
                f"{path}.values", f"'{value}' has no Latin letter or digit, which the feature's name would be made of"
            )


def _fairness(f: Findings) -> None:
    wanted, features = f.content.fairness, f.content.rule_features()
    if features is not None:
        for name in wanted.protected:
            f.refer("fairness.protected", name, features.customer)
    for name in wanted.exposure_of:
        f.refer("fairness.exposure_of", name, (*f.ids["actions"], *f.content.groups))
    if wanted.floor is not None and not wanted.protected:
        f.add("fairness.floor", "needs features whose groups are compared; name them in fairness.protected")
