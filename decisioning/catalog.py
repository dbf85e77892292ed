"""The business content: what may be proposed, where, to whom, how often, and which tests run.

These types are the YAML's schema, so an editor, the loader and the code agree by construction.
Durations are ISO 8601 (`P7D`, `PT30M`), money is in `currency`.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from decisioning.errors import CatalogError
from decisioning.exploration import EpsilonGreedy, ExplorationPolicy
from decisioning.rules import Rule

CONTACT_MEMORY = timedelta(days=30)  # hot state forgets older contacts
BUCKETS = 10_000  # into which experiments divide their units
NO_ACTION = "no_action"  # reserved id: the choice to show nothing, a candidate like any other

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
Scalar = bool | int | float | str | None
PositiveNumber = Annotated[float, msgspec.Meta(gt=0)]
Purpose = Literal["personalisation", "marketing"]
ShownBy = Literal["impression", "sent", "decision"]
Status = Literal["draft", "approved", "live", "retired"]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to reach the customer; `requires_consent` names the purpose that must be consented."""

    id: Id
    requires_consent: Purpose | None = None


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an answer appears.

    Attributes:
        slots: How many actions fit.
        shown_by: What proves that the customer saw it; only then is it a contact for good and a
            row to learn from. Until then a contact is reserved, for `time_out` at most.
        time_out: How long an answer may be shown.
        attribution_window: How long after the decision an outcome still counts for it.
        reward: What each outcome type is worth; `value` takes the outcome's own amount. A decision
            that earned more than 0 is a success: the propensity model's label.
        exploration: The exploration policy.
        priority_scale: The priority that counts as 1 for the exploration policy: about the
            highest that is seen; higher ones count as 1 too.
    """

    id: Id
    channel: Id
    slots: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    shown_by: ShownBy = "impression"
    time_out: timedelta = timedelta(minutes=30)
    attribution_window: timedelta = timedelta(days=7)
    reward: Annotated[dict[str, float | Literal["value"]], msgspec.Meta(min_length=1)]
    exploration: ExplorationPolicy = EpsilonGreedy(epsilon=0.1)
    priority_scale: PositiveNumber


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action's rendering for a channel."""

    id: Id
    channel: Id
    content: dict[str, Any] = {}


class ContextWeight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiplies the priority by `weight` while `when` (CEL) holds."""

    when: str
    weight: Annotated[float, msgspec.Meta(ge=0)]


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something we may propose.

    Attributes:
        value: What a success is worth, in the catalogue's currency.
        lever: The business's own multiplier; 1 changes nothing.
        eligibility: Qualifies for it (CEL). Applicability: relevant now. Suitability: in the
            customer's interest. All three must hold.
        fallback: May be shown when a store or the model fails; needs no scores.
        attributes: Facts for rules (`action.margin`) and for the model.
    """

    id: Id
    name: str
    group: Id
    goal: Id
    status: Status = "draft"
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    value: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    lever: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    context_weights: tuple[ContextWeight, ...] = ()
    eligibility: str = "true"
    applicability: str = "true"
    suitability: str = "true"
    fallback: bool = False
    attributes: dict[str, float | str] = {}
    treatments: tuple[Treatment, ...] = ()

    @property
    def is_no_action(self) -> bool:
        """Whether this is the choice to show nothing."""
        return self.id == NO_ACTION

    def scope(self) -> dict[str, Scalar]:
        """What rules see as `action`, and where the model's action features come from.

        >>> Action(id="a", name="A", group="g", goal="o", attributes={"margin": 2.0}).scope()
        {'margin': 2.0, 'action_id': 'a', 'group': 'g', 'goal': 'o', 'value': 0.0}
        """
        return {
            **self.attributes,
            "action_id": self.id,
            "group": self.group,
            "goal": self.goal,
            "value": self.value,
        }


class ContactPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `limit` contacts of one customer within a rolling window, of 30 days at most.

    `per` says what is counted together: every contact (`any`), or those of the same channel,
    group or action. `only` narrows it to one channel, group or action by id.
    """

    id: Id
    limit: Annotated[int, msgspec.Meta(ge=0)]
    within: timedelta
    per: Literal["any", "channel", "group", "action"] = "any"
    only: Id | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment's arm: its share of the units, and a payload for the caller."""

    id: Id
    weight: PositiveNumber
    payload: dict[str, Any] = {}


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A randomised comparison; `salt` (the id by default) keeps experiments independent."""

    id: Id
    status: Literal["draft", "running", "stopped"] = "draft"
    salt: str = ""
    placements: tuple[Id, ...] = ()
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(min_length=1)]


def variant_ends(experiment: Experiment) -> tuple[int, ...]:
    """The bucket at which each variant ends, exclusive, in proportion to the weights; the last is 10,000.

    >>> variant_ends(Experiment(id="e", variants=(Variant("a", 1.0), Variant("b", 3.0))))
    (2500, 10000)
    """
    weights = [variant.weight for variant in experiment.variants]
    reached = [sum(weights[: number + 1]) / sum(weights) for number in range(len(weights))]
    return tuple(round(share * BUCKETS) for share in reached)


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the YAML files of one domain say, merged; `Catalog` is its checked, compiled form."""

    domain: Id
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    market: Id = "default"
    groups: tuple[Id, ...]
    goals: tuple[Id, ...]
    channels: tuple[Channel, ...]
    placements: tuple[Placement, ...]
    actions: tuple[Action, ...]
    contact_policies: tuple[ContactPolicy, ...] = ()
    experiments: tuple[Experiment, ...] = ()


class Catalog:
    """Checked content with compiled rules and look-ups by id.

    Attributes:
        content: What the files say.
        version: `sha256:` and the hash of the content.

    Raises:
        CatalogError: With every mistake, each with its path and what is allowed.
    """

    def __init__(self, content: Content, *, version: str) -> None:
        self.content = content
        self.version = version
        self.channels = {channel.id: channel for channel in content.channels}
        self.placements = {placement.id: placement for placement in content.placements}
        self.actions = {action.id: action for action in content.actions}
        self._treatments = {(action.id, t.channel): t for action in content.actions for t in action.treatments}
        self._rules: dict[str, Rule] = {}
        mistakes = _mistakes(content)
        for path, source in _rule_sources(content):
            try:
                self._rules.setdefault(source, Rule(source))
            except ValueError as error:
                mistakes.append(f"{path}: {error}")
        if mistakes:
            raise CatalogError(mistakes)
        self._engagement = {
            action.id: tuple(
                (part, self._rules[source]) for part, source in _engagement_policy(action) if source != "true"
            )
            for action in content.actions
        }

    def rule(self, source: str) -> Rule:
        """The compiled form of a rule that stands in this catalogue."""
        return self._rules[source]

    def engagement_policy(self, action: Action) -> tuple[tuple[str, Rule], ...]:
        """The action's rules that can be false, each with its part: eligibility, applicability, suitability."""
        return self._engagement[action.id]

    def treatment(self, action: Action, placement: Placement) -> Treatment | None:
        """The action's rendering for the placement's channel, if it has one."""
        return self._treatments.get((action.id, placement.channel))


def _engagement_policy(action: Action) -> tuple[tuple[str, str], ...]:
    return (
        ("eligibility", action.eligibility),
        ("applicability", action.applicability),
        ("suitability", action.suitability),
    )


def _rule_sources(content: Content) -> list[tuple[str, str]]:
    sources = []
    for action in content.actions:
        path = f"actions[{action.id}]"
        sources += [(f"{path}.{part}", source) for part, source in _engagement_policy(action)]
        sources += [(f"{path}.context_weights[{i}].when", w.when) for i, w in enumerate(action.context_weights)]
    return sources


def _mistakes(content: Content) -> list[str]:
    """References that lead nowhere, ids used twice, values that contradict each other."""
    found: list[str] = []

    def refer(path: str, name: str, allowed: tuple[str, ...]) -> None:
        if name not in allowed:
            found.append(f"{path}: '{name}' is not defined, must be one of {', '.join(sorted(allowed)) or '(none)'}")

    def unique(kind: str, ids: list[str]) -> None:
        found.extend(f"{kind}[{i}]: the id is used twice" for i in sorted({i for i in ids if ids.count(i) > 1}))

    channels = tuple(channel.id for channel in content.channels)
    placements = tuple(placement.id for placement in content.placements)
    actions = tuple(action.id for action in content.actions)
    for kind in ("channels", "placements", "actions", "contact_policies", "experiments"):
        unique(kind, [item.id for item in getattr(content, kind)])
    for placement in content.placements:
        path = f"placements[{placement.id}]"
        refer(f"{path}.channel", placement.channel, channels)
        for name in ("time_out", "attribution_window"):
            duration = getattr(placement, name)
            if duration <= timedelta(0):
                found += [f"{path}.{name}: is {duration}, must be longer than 0"]
    for action in content.actions:
        path = f"actions[{action.id}]"
        refer(f"{path}.group", action.group, content.groups)
        refer(f"{path}.goal", action.goal, content.goals)
        unique(f"{path}.treatments", [treatment.id for treatment in action.treatments])
        for treatment in action.treatments:
            refer(f"{path}.treatments[{treatment.id}].channel", treatment.channel, channels)
        for name in ("valid_from", "valid_until"):
            at = getattr(action, name)
            if at is not None and at.tzinfo is None:
                found.append(f"{path}.{name}: has no time zone, write it like 2026-11-21T18:00:00Z")
        if not found and action.valid_from and action.valid_until and action.valid_from >= action.valid_until:
            found.append(f"{path}.valid_until: is not after valid_from")
        reserved = sorted(set(action.attributes) & {"action_id", "group", "goal", "value"})
        found.extend(f"{path}.attributes.{name}: the name is taken, choose another" for name in reserved)
        if action.is_no_action and action.treatments:
            found.append(f"{path}.treatments: {NO_ACTION} shows nothing, so it has no treatments")
    for policy in content.contact_policies:
        path = f"contact_policies[{policy.id}]"
        if not timedelta(0) < policy.within <= CONTACT_MEMORY:
            found.append(f"{path}.within: is {policy.within}, must be longer than 0 and at most {CONTACT_MEMORY}")
        if policy.only is not None:
            allowed = {"any": (), "channel": channels, "group": content.groups, "action": actions}[policy.per]
            refer(f"{path}.only", policy.only, allowed)
    unique("experiments.salt", [experiment.salt or experiment.id for experiment in content.experiments])
    for experiment in content.experiments:
        path = f"experiments[{experiment.id}]"
        unique(f"{path}.variants", [variant.id for variant in experiment.variants])
        ends = (0, *variant_ends(experiment))
        for variant, begin, end in zip(experiment.variants, ends[:-1], ends[1:], strict=True):
            if begin == end:
                found.append(f"{path}.variants[{variant.id}].weight: is less than 1 in {BUCKETS:,} of all")
        for placement_id in experiment.placements:
            refer(f"{path}.placements", placement_id, placements)
    return found
