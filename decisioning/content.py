"""What marketers write: the YAML's schema, so an editor, the loader and the code agree by construction.

Durations are ISO 8601 (`P7D`, `PT30M`), times of day are `HH:MM`, rules are CEL (`decisioning.rules`).
One `Content` is one market's whole catalogue; `decisioning.catalog` holds its checked, compiled form.
"""

import re
import unicodedata
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec

from decisioning.exploration import EpsilonGreedy, ExplorationPolicy
from decisioning.outcome_types import OutcomeDetail, OutcomeType

CONTACT_MEMORY = timedelta(days=30)  # hot state forgets older contacts
LONGEST_DELAY = timedelta(days=30)  # of a moment; hot state forgets older events
EVENT_MEMORY = timedelta(days=30)  # the longest window of a feature over events
BUCKETS = 10_000  # into which experiments and the holdout divide their units
NO_ACTION = "no_action"  # reserved id: the choice to show nothing, a candidate like any other
BLUEPRINT = "global"  # the market that every other market starts from

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
HookId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Person = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Cel = Annotated[str, msgspec.Meta(min_length=1)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
Locale = Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Scalar = bool | int | float | str | None
Value = Scalar | tuple[str, ...]  # of a feature: responsibilities, sites and the like are lists
PositiveNumber = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Purpose = Literal["personalisation", "marketing"]
PERSONALISATION: Purpose = "personalisation"
MARKETING: Purpose = "marketing"
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ShownBy = Literal["impression", "sent", "decision"]
Status = Literal["draft", "approved", "live", "retired"]
CountedPer = Literal["any", "channel", "group", "goal", "action"]
HookFormat = Literal["sendgrid", "brevo", "segment", "custom"]
FeatureKind = Literal["number", "text", "truth", "texts"]
TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
# Where in a provider's item: names with dots between them.
ItemPath = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^.]+(\.[^.]+)*$")]
HeaderName = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9-]+$")]
EndOfDay = Annotated[str, msgspec.Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


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
    """Stages that a customer goes through; a customer is in one of them, or in none."""

    id: Id
    owner: Person = "unknown"
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


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A system that sends events, and what it calls things; `id` is the name of the key that it sends with.

    Attributes:
        owner: Whom to ask.
        market: Where its customers are, and `currency`, what its money is in, unless an event says: the
            market's own when absent. Events' money is kept in the catalogue's.
        events: What it calls an event, and what that is called here. Those of the Segment specification are known.
        properties: The same for properties, those of an order's lines included.
        products: What it calls a product (`product_id`), and what that is called here.
        id_prefix: What its customers' and visitors' ids begin with here, where they are numbers of its own
            that others use for other people. An `alias` says who of them is whom.
        ignored: Events that are not kept.
        outcomes: Types of outcomes that are not known without it. Where no source says so of a type, those
            that bring a tenth of it or more are needed.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    owner: Person = "unknown"
    market: Id | None = None
    currency: Currency | None = None
    events: dict[str, Id] = {}
    properties: dict[str, Id] = {}
    products: dict[str, Name] = {}
    id_prefix: Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    ignored: tuple[str, ...] = ()
    outcomes: tuple[OutcomeType, ...] = ()


class AtMost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """So many times within a rolling `per`, for all ids of a person together."""

    times: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    per: timedelta


class ToWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The webhook of this name in the file that the setting `webhooks` names."""

    webhook: HookId


class Moment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event that asks for a decision, whose answer goes to a channel.

    Attributes:
        owner: Whom to ask.
        event: The name of the event (`cart_added`); of what is not tracked, the type (`identify`).
        when: Only events for which this holds (CEL); what the event says is `context`. A rule that errs does not.
        delay: How long after the event it is due, 30 days at most.
        unless: Events that end it when they happen after the event and before the decision.
        at_most: How often for one person. Those that came to nothing do not count.
        placement: What is decided for.
        deliver: `pull`: the channel fetches it; or `{webhook: crm}`: it is sent there.
        expires: So long after it was due it is not decided any more, and what was decided is not
            delivered: after an outage nobody gets yesterday's. 30 days at most.
    """

    id: Id
    owner: Person = "unknown"
    event: Name
    when: Cel = "true"
    delay: timedelta = timedelta(0)
    unless: tuple[Name, ...] = ()
    at_most: AtMost | None = None
    placement: Id
    deliver: Literal["pull"] | ToWebhook
    expires: timedelta = timedelta(days=1)


class HookEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The outcome that a provider's event is."""

    type: OutcomeType
    detail: OutcomeDetail | None = None


class HookSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How calls prove whose they are; the secret stands in the file that the setting `hook_secrets` names.

    Attributes:
        header: Of a `custom` hook: where it sends the HMAC-SHA256 of the body, in hexadecimal.
        tolerance: How far the time that a `sendgrid` hook signs may lie from now.
    """

    header: HeaderName | None = None
    tolerance: timedelta = timedelta(minutes=5)


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider that reports outcomes to `/v1/hooks/{id}`. What it calls things is known, but for a `custom` one.

    Attributes:
        owner: Whom to ask.
        format: Whose signature, names and places are meant where nothing else is said.
        decision_id: Where an item has the decision's id; `properties.decision` is the `decision` in `properties`.
        action_id: Where it has the action's id; it may be missing where the decision showed one action.
        event: Where it has the event's name.
        event_id: Where it has the event's own id. Without one, an item with the same content is the same event.
        occurred_at: Where it has the time: seconds since 1970, or text like 2026-11-21T18:00:00Z.
        events: What it calls an event, and which outcome that is. What is not named is ignored.
    """

    id: HookId
    owner: Person = "unknown"
    format: HookFormat
    verify: HookSignature = HookSignature()
    decision_id: ItemPath | None = None
    action_id: ItemPath | None = None
    event: ItemPath | None = None
    event_id: ItemPath | None = None
    occurred_at: ItemPath | None = None
    events: dict[str, HookEvent] = {}


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The universal control: this share of all units gets fallback actions alone, always the same units."""

    share: Share = 0.05
    salt: str = "holdout"


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


class FeatureTypes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The features of the feature store, with their kinds; the loader fills it in from Feast."""

    customer: dict[str, FeatureKind] = {}
    account: dict[str, FeatureKind] = {}


class Derived(NamedTuple):
    """One feature of an `EventFeature`: over this window, of events with this value of its `by`."""

    name: str
    kind: FeatureKind
    window: timedelta | None = None
    value: str | None = None


class EventFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something computed from what a customer did: one feature for each of its `windows` and `values`.

    Attributes:
        event: The name of the events (`purchase`); of what is not tracked, the type (`page`).
        compute: `count` counts them, `sum` adds up the property `of`, `recency` is how many hours ago
            the last one was, `last` is the newest value of the property `of`.
        of: A property of the events. Those without it count for nothing, nor do those whose value is
            no number where one is needed.
        kind: What `last` gives, `text` when absent.
        windows: Rolling, 30 days at most, in whole minutes. An event that is exactly one window old
            no longer counts.
        by: A property that tells events apart, with a feature for each of these `values` of it. An
            event that says several, in a list or in the lines of an order (`products.category`),
            counts once for each.
    """

    id: Id
    event: Name
    compute: Literal["count", "sum", "recency", "last"]
    of: Name | None = None
    kind: Literal["number", "text"] | None = None
    windows: tuple[timedelta, ...] = ()
    by: Name | None = None
    values: tuple[Name, ...] = ()

    def derived(self) -> tuple[Derived, ...]:
        """The features, by value, then by window.

        >>> week = EventFeature(id="orders", event="purchase", compute="count", windows=(timedelta(days=7),))
        >>> [feature.name for feature in week.derived()]
        ['orders_7d']
        """
        kind: FeatureKind = self.kind or "text" if self.compute == "last" else "number"
        return tuple(
            Derived("_".join(part for part in (self.id, name_of(value), _length(window)) if part), kind, window, value)
            for value in (self.values or (None,))
            for window in (self.windows or (None,))
        )


def name_of(value: str | None) -> str:
    """What a property's value is called in a feature's name.

    >>> name_of("Men's Shoes"), name_of("Gemüse")
    ('men_s_shoes', 'gemuse')
    """
    plain = unicodedata.normalize("NFKD", value or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


def _length(window: timedelta | None) -> str:
    """`7d`, `36h`, `30m`: the largest unit that there is a whole number of."""
    if window is None:
        return ""
    seconds = window // timedelta(seconds=1)
    units = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
    return next(f"{seconds // unit}{letter}" for unit, letter in units if seconds % unit == 0)


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
    experiments: tuple[Experiment, ...] = ()
    event_features: tuple[EventFeature, ...] = ()
    approvers: tuple[Approver, ...] = ()
    features: FeatureTypes | None = None

    def rule_features(self) -> FeatureTypes | None:
        """The features that rules may name: the feature store's, and those over events; None as `features`."""
        if self.features is None:
            return None
        over_events = {each.name: each.kind for feature in self.event_features for each in feature.derived()}
        return FeatureTypes(customer=over_events | self.features.customer, account=self.features.account)


def variant_ends(experiment: Experiment) -> tuple[int, ...]:
    """The bucket at which each variant ends, exclusive, in proportion to the weights; the last is 10,000.

    >>> variant_ends(Experiment(id="e", variants=(Variant("a", 1.0), Variant("b", 3.0))))
    (2500, 10000)
    """
    largest = max(variant.weight for variant in experiment.variants)
    weights = [variant.weight / largest for variant in experiment.variants]  # their sum must not overflow
    reached = [sum(weights[: number + 1]) / sum(weights) for number in range(len(weights))]
    return tuple(round(share * BUCKETS) for share in reached)
