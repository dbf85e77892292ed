"""What marketers write: the YAML's schema, so an editor, the loader and the code agree by construction.

Durations are ISO 8601 (`P7D`, `PT30M`), times of day are `HH:MM`, rules are CEL (`decisioning.rules`).
One `Content` is one market's whole catalogue; `decisioning.catalog` holds its checked, compiled form.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from decisioning.content_types import (
    BLUEPRINT,
    NO_ACTION,
    Cel,
    CountedPer,
    Currency,
    EndOfDay,
    FeatureKind,
    Id,
    Locale,
    Name,
    NonNegative,
    Person,
    PositiveNumber,
    Purpose,
    Scalar,
    ShownBy,
    Status,
    TimeOfDay,
)
from decisioning.event_content import EventFeature, Hook, Moment, Source
from decisioning.experiment_content import Experiment, GroupHoldout, Holdout, Layer, Metric
from decisioning.exploration import EpsilonGreedy, ExplorationPolicy


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to reach the customer; `requires_consent` names the purpose that must be consented."""

    id: Id
    requires_consent: Purpose | None = None


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an answer appears.

    Attributes:
        slots: How many actions fit.
        shown_by: What proves that the customer saw it; only then is it a contact for good and a
            row to learn from. Until then a contact is reserved, for `time_out` at most. `sent`
            makes it a push placement: what it gets is sent, now or at a planned time.
        time_out: How long an answer may be shown; asked again within it, it is the same answer.
        attribution_window: How long after the decision an outcome still counts for it.
        reward: What each outcome type is worth; `value` takes the outcome's own amount. A decision
            that earned more than 0 is a success: the propensity model's label.
        exploration: The exploration policy.
        priority_scale: The priority that counts as 1 for the exploration policy: about the
            highest that is seen; higher ones count as 1 too.
        apprentice: Serve the order in which the request names its `actions` (the catalogue's, where it names
            none), as far as consent, rules and caps allow, while the model only says what it would have done.
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
    apprentice: bool = False

    @property
    def is_push(self) -> bool:
        """Whether we go to the customer here, rather than the customer to us."""
        return self.shown_by == "sent"


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action's rendering for a channel, or for some `placements` of it only.

    `content` is what is shown; `locales` replaces single keys of it by language (`de`, `de-AT`).
    `content_ref` names the content in a CMS, for the caller to fetch.
    """

    id: Id
    channel: Id
    content: dict[str, Any] = {}
    placements: tuple[Id, ...] = ()
    locales: dict[Locale, dict[str, Any]] = {}
    content_ref: str | None = None


class ContextWeight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiplies the priority by `weight` while `when` (CEL) holds."""

    when: Cel
    weight: NonNegative


class Asks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A consent that an action asks for. Once it is given, that is the action's `accept`."""

    purpose: Purpose
    channel: Id


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something we may propose.

    Attributes:
        owner: Who wrote it and answers for it. `approved_by`: another person, see `Approver`.
        status: `live` actions are shown to customers; `approved` ones in previews only.
        rank_by: `response` ranks by how likely a success is, `uplift` by how much likelier than
            without it (against `no_action`, which the catalogue must then have).
        value: What a success is worth: a number, or CEL that gives one.
        currency: Of `value`; the market's when absent. Converted before arbitration.
        lever: The business's own multiplier; 1 changes nothing.
        eligibility: Qualifies for it (CEL). Applicability: relevant now. Suitability: in the
            customer's interest. All three must hold.
        promotes: Products. Who bought one is not offered it again, or not before `again_after`.
        stages: Only for customers in one of these journey stages; empty: in any.
        buying_roles: Only for contacts with one of these roles in their account's buying group.
        budget: What a contact with it is charged to; `cost` is how much, in the catalogue's
            currency (a budget that counts contacts counts each as 1).
        asks: The consent that it asks for; not shown to who has given it.
        follow_up: The action that takes its place, on every channel, once it is accepted.
        fallback: May be shown when a store or the model fails, and to the holdout; needs no scores.
        attributes: Facts for rules (`action.margin`) and for the model.
    """

    id: Id
    name: Name
    group: Id
    goal: Id
    owner: Person = "unknown"
    approved_by: Person | None = None
    status: Status = "draft"
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    rank_by: Literal["response", "uplift"] = "response"
    value: NonNegative | Cel = 0.0
    currency: Currency | None = None
    lever: NonNegative = 1.0
    context_weights: tuple[ContextWeight, ...] = ()
    eligibility: Cel = "true"
    applicability: Cel = "true"
    suitability: Cel = "true"
    promotes: tuple[Id, ...] = ()
    again_after: timedelta | None = None
    stages: tuple[Id, ...] = ()
    buying_roles: tuple[Id, ...] = ()
    budget: Id | None = None
    cost: NonNegative = 0.0
    asks: Asks | None = None
    follow_up: Id | None = None
    fallback: bool = False
    attributes: dict[str, float | str] = {}
    treatments: tuple[Treatment, ...] = ()

    @property
    def is_no_action(self) -> bool:
        """Whether this is the choice to show nothing."""
        return self.id == NO_ACTION

    def scope(self) -> dict[str, Scalar]:
        """What rules see as `action`, and where the model's action features come from.

        A `value` that is a rule is not a fact of the action and is left out.

        >>> Action(id="a", name="A", group="g", goal="o", attributes={"margin": 2.0}).scope()
        {'margin': 2.0, 'action_id': 'a', 'group': 'g', 'goal': 'o', 'value': 0.0}
        """
        known: dict[str, Scalar] = {**self.attributes, "action_id": self.id, "group": self.group, "goal": self.goal}
        return known if isinstance(self.value, str) else {**known, "value": self.value}


class ContactPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `limit` contacts within a rolling window, of 30 days at most.

    `per` says what is counted together: every contact (`any`), or those of the same channel,
    group, goal or action. `only` narrows it to one of these by id. `of` says whose contacts: the
    customer's, or those of everyone in the customer's account. A minimum distance between two
    contacts is a limit of 1 within that time.
    """

    id: Id
    limit: Annotated[int, msgspec.Meta(ge=0)]
    within: timedelta
    per: CountedPer = "any"
    only: Id | None = None
    of: Literal["customer", "account"] = "customer"


class CoolDown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Silence of `lasting` (30 days at most) after the customer said no.

    `after: reject` starts with a rejection; `after: ignore` when the last `times` contacts that are
    counted together had no click, acceptance or purchase. `per` and `only` as in `ContactPolicy`.
    """

    id: Id
    after: Literal["reject", "ignore"]
    lasting: timedelta
    times: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    per: CountedPer = "action"
    only: Id | None = None


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nothing goes out from `begin` to `end` (may pass midnight), on the customer's own clock.

    `days` are those on which a quiet period begins, 1 = Monday to 7 = Sunday; empty: every day.
    `channels` empty: every push placement. The customer's time zone is the feature `time_zone`,
    the market's where it is missing or unknown. A push placement is judged at the planned time.
    """

    id: Id
    begin: TimeOfDay
    end: EndOfDay
    days: tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...] = ()
    channels: tuple[Id, ...] = ()


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be spent in a period: money in the catalogue's currency, or a number of contacts.

    Attributes:
        counts: `money` charges each contact the action's `cost`, `contacts` charges 1.
        period: Length of a period; periods follow each other from `starts` on.
        pacing: `even` releases the amount in proportion to the time that has passed.
        of: Whose: everyone's together, or each account's or customer's own (then a period has 30
            days at most).
    """

    id: Id
    owner: Person = "unknown"
    amount: NonNegative
    counts: Literal["money", "contacts"] = "money"
    period: timedelta
    starts: datetime
    pacing: Literal["none", "even"] = "none"
    of: Literal["everyone", "account", "customer"] = "everyone"


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stage of a journey.

    Attributes:
        entry: Who is not in a later stage by an event belongs here when this holds (CEL).
        exit: Who is here does not stay when this holds.
        weights: Multiplies the priority of actions (by id) or of groups (by id) for who is here.
    """

    id: Id
    name: Name
    entry: Cel = "false"
    exit: Cel = "false"
    weights: dict[Id, NonNegative] = {}


class Transition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event that takes a customer from one stage to another.

    `on` is an outcome type (`purchase`), one of one action (`accept:welcome_call`), or an event of a source
    (`cart_added`).
    """

    source: Id
    target: Id
    on: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class Journey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stages that a customer goes through; a customer is in one of them, or in none.

    Attributes:
        horizon: How far ahead a model foretells in which stage the customer will be: rules may then name
            `customer.chance_of_<stage>`. None: it is not foretold.
    """

    id: Id
    owner: Person = "unknown"
    horizon: timedelta | None = None
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]
    transitions: tuple[Transition, ...] = ()


class Audience(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Customers for whom `rule` holds and who are in none of the `exclusions` (other audiences).

    Rules ask `in_audience('id')`. `minimum_size` by channel is what `nextmove audience` checks.
    """

    id: Id
    owner: Person = "unknown"
    rule: Cel
    exclusions: tuple[Id, ...] = ()
    minimum_size: dict[Id, Annotated[int, msgspec.Meta(ge=0)]] = {}


class Fairness(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What must not decide how customers are treated, and how alike groups must be.

    Attributes:
        protected: Customer features that no model learns from; `nextmove fairness` compares their groups.
        exposure_of: Actions or groups of actions that are good to get; empty: any action.
        floor: A model is not promoted whose policy would show them to a group less than this share as often as
            to the largest group, or the other way round. Absent: it is only reported.
    """

    protected: tuple[Id, ...] = ()
    exposure_of: tuple[Id, ...] = ()
    floor: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


class Approver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may approve actions; an empty list means: any. Nobody approves what is their own."""

    person: Person
    markets: tuple[Id, ...] = ()
    groups: tuple[Id, ...] = ()
    channels: tuple[Id, ...] = ()
    budgets: tuple[Id, ...] = ()


class Naming(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ids must look like: regular expressions over the whole id."""

    actions: str = "[a-z][a-z0-9_]*"
    audiences: str = "[a-z][a-z0-9_]*"
    budgets: str = "[a-z][a-z0-9_]*"
    experiments: str = "[a-z][a-z0-9_]*"
    event_features: str = "[a-z][a-z0-9_]*"


class FeatureTypes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The features of the feature store, with their kinds; the loader fills it in from Feast."""

    customer: dict[str, FeatureKind] = {}
    account: dict[str, FeatureKind] = {}


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One market's catalogue, as its files say it, merged.

    Attributes:
        market: `global` for the blueprint.
        currency: The blueprint's: of priorities, budgets, costs and answers' values, in every market.
        market_currency: What values are in that say nothing else.
        rates: What one unit of another currency is worth in `currency`: of actions' values, and of events'
            money. `rates_as_of` is the day that they are of, `rates_owner` whom to ask about them.
        language: Of content whose request says nothing else.
        continuity: How long a shown action stays the choice.
        fairness: In every market the same, as a model is.
        personalisation: Whether customers must have consented before stored features and history are used
            (`consent`), or may object (`default`: where another legal basis allows it).
        topics: Groups that customers may choose or refuse; absent: all of them. Of those that are left
            out, everyone hears, whatever their preferences say or whether they can be read.
        locked: Paths that markets must not override: `actions.*.eligibility`, `contact_policies`.
        hooks: Providers' webhooks; in every market the same, since a provider does not say which one it is about.
        event_features: In every market the same, as events belong to customers.
        moments: Of the market that an event is of; the blueprint's where it is of none.
        features: Those of the feature store. None where they are not known; names in rules are then
            not checked.
    """

    domain: Id
    market: Id = BLUEPRINT
    currency: Currency
    market_currency: Currency | None = None
    rates: dict[Currency, PositiveNumber] = {}
    rates_as_of: date | None = None
    rates_owner: Person = "unknown"
    language: Locale = "en"
    time_zone: str = "UTC"
    continuity: timedelta = timedelta(days=3)
    holdout: Holdout = Holdout()
    fairness: Fairness = Fairness()
    personalisation: Literal["consent", "default"] = "consent"
    topics: tuple[Id, ...] | None = None
    naming: Naming = Naming()
    locked: tuple[str, ...] = ()
    groups: tuple[Id, ...]
    goals: tuple[Id, ...]
    channels: tuple[Channel, ...]
    placements: tuple[Placement, ...]
    actions: tuple[Action, ...]
    budgets: tuple[Budget, ...] = ()
    contact_policies: tuple[ContactPolicy, ...] = ()
    cool_downs: tuple[CoolDown, ...] = ()
    quiet_hours: tuple[QuietHours, ...] = ()
    journeys: tuple[Journey, ...] = ()
    audiences: tuple[Audience, ...] = ()
    sources: tuple[Source, ...] = ()
    hooks: tuple[Hook, ...] = ()
    moments: tuple[Moment, ...] = ()
    holdouts: tuple[GroupHoldout, ...] = ()
    layers: tuple[Layer, ...] = ()
    metrics: tuple[Metric, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    event_features: tuple[EventFeature, ...] = ()
    approvers: tuple[Approver, ...] = ()
    features: FeatureTypes | None = None

    def rule_features(self) -> FeatureTypes | None:
        """The features that rules may name: the feature store's, and those over events; None as `features`."""
        if self.features is None:
            return None
        over_events = {each.name: each.kind for feature in self.event_features for each in feature.derived()}
        foretold: dict[str, FeatureKind] = dict.fromkeys(self.chances, "number")
        return FeatureTypes(customer=foretold | over_events | self.features.customer, account=self.features.account)

    @property
    def explorations(self) -> Iterator[tuple[str, ExplorationPolicy]]:
        """By which policies placements explore: each placement's own, and what running experiments try in it."""
        for placement in self.placements:
            yield placement.id, placement.exploration
            for experiment in self.experiments:
                if experiment.status == "running" and placement.id in (experiment.placements or (placement.id,)):
                    for variant in experiment.variants:
                        if variant.exploration is not None:
                            yield placement.id, variant.exploration

    @property
    def chances(self) -> tuple[str, ...]:
        """Names of the features that foretell stages."""
        return tuple(chance_of(s.id) for journey in self.journeys if journey.horizon for s in journey.stages)


def chance_of(stage_id: str) -> str:
    """What the feature is called that foretells a stage.

    >>> chance_of("loyal")
    'chance_of_loyal'
    """
    return f"chance_of_{stage_id}"
