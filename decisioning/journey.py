"""Journeys: which stage a customer is in, by what happened and by what is known."""

from collections.abc import Iterable

from decisioning.catalog import Catalog
from decisioning.content import Action, Journey
from decisioning.profile import Event
from decisioning.rules import Rule, RuleFailure, RuleScope


def stages_of(catalog: Catalog, events: Iterable[Event], scope: RuleScope) -> tuple[str, ...]:
    """The stages that the customer is in, one a journey at most."""
    happened = sorted(events, key=lambda event: (event.at, event.name))
    found = (_stage(journey, catalog, happened, scope) for journey in catalog.content.journeys)
    return tuple(stage for stage in found if stage is not None)


def _stage(journey: Journey, catalog: Catalog, happened: Iterable[Event], scope: RuleScope) -> str | None:
    """Events take a customer from stage to stage; who was taken nowhere is where the entry rules say.

    An event counts once, at its last time. A customer whom it finds in no stage yet is taken for one
    of its source. Of several stages whose entry holds, the last in the journey's order counts.
    """
    current: str | None = None
    for event in happened:
        for transition in journey.transitions:
            if transition.on == event.name and current in (None, transition.source):
                current = transition.target
                break
    if current is not None and not _holds(catalog.stage_rules[current][1], scope):
        return current
    for stage in reversed(journey.stages):
        entry, leaving = catalog.stage_rules[stage.id]
        if stage.id != current and _holds(entry, scope) and not _holds(leaving, scope):
            return stage.id
    return None


def stage_weight(catalog: Catalog, stages: Iterable[str], action: Action) -> float:
    """What the customer's stages multiply this action's priority by: its own weight, or its group's."""
    weight = 1.0
    for stage_id in stages:
        weights = catalog.stages[stage_id].weights
        weight *= weights.get(action.id, weights.get(action.group, 1.0))
    return weight


def _holds(rule: Rule, scope: RuleScope) -> bool:
    """An error says nothing of the customer, so it moves nobody."""
    try:
        return rule.holds(scope)
    except RuleFailure:
        return False
