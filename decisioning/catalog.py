"""A catalogue as the funnel uses it: checked, with rules compiled and everything known at load worked out.

One `Catalog` is one market's. A `Release` holds those of all markets under one version.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from decisioning.caps import Caps
from decisioning.catalog_checks import mistakes
from decisioning.content import Action, Audience, Content, FeatureTypes, Journey, Placement, Stage, Treatment
from decisioning.content_types import BLUEPRINT, CountedPer
from decisioning.currencies import Currencies
from decisioning.direct_rules import Scope, Screened, screen
from decisioning.errors import CatalogError, RequestError
from decisioning.event_content import Moment
from decisioning.event_features import EventFeatures
from decisioning.experiment_content import Alias, Experiment, Variant
from decisioning.exploration import ExplorationPolicy
from decisioning.reasons import Drop
from decisioning.rule_types import RuleTypes
from decisioning.rules import MAX_EXPANDED, Rule, RuleScope, audiences_in, expanded
from decisioning.trial import Trial
from decisioning.vocabulary import Vocabulary

Part = Literal["eligibility", "applicability", "suitability"]
PARTS: tuple[Part, ...] = ("eligibility", "applicability", "suitability")
# Every set of an action's context weights is worked out at load, but not of more than so many.
MAX_SWITCHES = 4


class Proposal(NamedTuple):
    """An action as it would be shown in one placement, with its rules compiled for it.

    Attributes:
        engagement: The rules that can be false, each with its part.
        weights: Rules and the context weights that they switch on.
        value: In the catalogue's currency, or `value_rule` gives it, to be multiplied by `rate`.
        counted_by: What a contact with it counts as, for every `per` of a contact policy.
        cost: What a contact with it is charged to the action's budget.
        gated: Whether purchases, journey stages, buying roles or a consent can rule it out.
    """

    action: Action
    treatment: Treatment | None
    treatment_id: str | None
    engagement: tuple[tuple[Part, Rule], ...]
    weights: tuple[tuple[Rule, float], ...]
    value: float
    value_rule: Rule | None
    rate: float
    counted_by: Mapping[CountedPer, str]
    cost: float
    gated: bool


class Eligible(msgspec.Struct, frozen=True, gc=False):
    """An action that may be shown, and how well the moment suits it.

    `value` is in the catalogue's currency. `repeats` is the decision whose contact this still is.
    """

    proposal: Proposal
    context_weight: float
    value: float
    repeats: str | None = None


class Offered(NamedTuple):
    """What a placement can get at all: proposals, and everything else with why not.

    Attributes:
        live: What customers get; `previewed`, what is approved but not live yet.
        dated: Whether any proposal has a time before or after which it is none.
        screened: Of what is live, by features and context, what its plain rules make of each; None
            where they cannot say.
        counting_as: Ids of those of which a contact counts as this key, for this `per` of a contact policy.
    """

    live: tuple[Proposal, ...]
    previewed: tuple[Proposal, ...]
    dropped: tuple[Drop, ...]
    dated: bool
    screened: Callable[[Scope, Scope, Scope], list[Eligible | Drop | None]]
    counting_as: Mapping[tuple[CountedPer, str], tuple[str, ...]]


class Assigned(Protocol):
    """A unit's variant of an experiment; a `record.Assignment` is one."""

    @property
    def experiment(self) -> str:
        """The experiment's id."""
        ...

    @property
    def variant(self) -> str:
        """The variant's id."""
        ...


class Catalog:
    """Checked content with compiled rules and look-ups by id.

    Attributes:
        content: What the files say.
        version: `sha256:` and the hash of the release.
        features: Those that rules may name; None where they are not known.
        promotes: The products of each action that has any.
        push: Placements whose answers are sent; `topics`: groups that customers may choose or refuse.
        moments: By id; `moments_on`: by event, each with its compiled `when`.
        experiments: Those that run, by id, ready to assign.
        models: By placement, which model scores there, where a variant says so (`under`).

    Raises:
        CatalogError: With every mistake, each with its path and what is allowed.
    """

    def __init__(self, content: Content, *, version: str, rules: "CompiledRules | None" = None) -> None:
        """Check and compile; `rules` are those of other markets, of which most are the same here."""
        self.content = content
        self.version = version
        self.channels = {channel.id: channel for channel in content.channels}
        self.placements = {placement.id: placement for placement in content.placements}
        self.actions = {action.id: action for action in content.actions}
        self.promotes = {action.id: action.promotes for action in content.actions if action.promotes}
        self.budgets = {budget.id: budget for budget in content.budgets}
        self.caps = Caps(content.contact_policies)
        self.push = frozenset(placement.id for placement in content.placements if placement.is_push)
        self.topics = frozenset(content.groups if content.topics is None else content.topics)
        self.features = content.rule_features()
        found = mistakes(content)
        compiler = _Compiler(content, found, rules or CompiledRules(self.features))
        engagement = {action.id: compiler.engagement(action) for action in content.actions}
        weights = {action.id: compiler.weights(action) for action in content.actions}
        values = {action.id: compiler.value(action) for action in content.actions}
        self.stages = {stage.id: stage for journey in content.journeys for stage in journey.stages}
        self.stage_rules = {
            stage.id: (compiler.stage(journey, stage, "entry"), compiler.stage(journey, stage, "exit"))
            for journey in content.journeys
            for stage in journey.stages
        }
        self.audiences = {audience.id: compiler.audience(audience) for audience in content.audiences}
        self.moments = {moment.id: moment for moment in content.moments}
        self.moments_on: dict[str, tuple[tuple[Moment, Rule], ...]] = {}
        for moment in content.moments:
            on = self.moments_on.get(moment.event, ())
            self.moments_on[moment.event] = (*on, (moment, compiler.moment(moment)))
        layers = {layer.id: layer for layer in content.layers}
        self.experiments = {
            each.id: Trial(each, layers.get(each.layer or ""), compiler.experiment(each))
            for each in content.experiments
            if each.status == "running"
        }
        if found:
            raise CatalogError(sorted(set(found), key=found.index))
        self.models: Mapping[str, Alias] = {}
        self._trials = {
            placement.id: tuple(
                trial
                for trial in self.experiments.values()
                if placement.id in (trial.experiment.placements or (placement.id,))
            )
            for placement in content.placements
        }
        self._under: dict[tuple[tuple[str, str], ...], Catalog] = {}
        self.time_zone = ZoneInfo(content.time_zone)
        self._treatments = {
            (action.id, placement.id): treatment
            for action in content.actions
            for placement in content.placements
            for treatment in action.treatments
            if treatment.channel == placement.channel
            and (not treatment.placements or placement.id in treatment.placements)
        } | {
            (action.id, placement_id): treatment
            for action in content.actions
            for treatment in action.treatments
            for placement_id in treatment.placements
        }
        # Of features, rules are told only what some rule names.
        self.named_features = frozenset().union(*(rule.names for rule in compiler.compiled))
        # A feature that is not known is null, but a list that is not known is empty.
        self._lists = tuple(
            (root, name)
            for root, name in sorted(self.named_features)
            if self.features is not None and getattr(self.features, root).get(name) == "texts"
        )
        self._proposals = {
            action.id: Proposal(
                action=action,
                treatment=None,
                treatment_id=None,
                engagement=engagement[action.id],
                weights=weights[action.id],
                value=values[action.id][0],
                value_rule=values[action.id][1],
                rate=values[action.id][2],
                counted_by={},
                cost=self._charge(action),
                gated=bool(action.promotes or action.stages or action.buying_roles or action.asks),
            )
            for action in content.actions
        }
        self._offered = {placement.id: self._offers(placement) for placement in content.placements}

    def trials(self, placement_id: str, *, now: datetime) -> tuple[Trial, ...]:
        """The experiments that run in this placement."""
        trials = self._trials[placement_id]
        if all(trial.experiment.starts is None or trial.experiment.starts <= now for trial in trials):
            return trials
        return tuple(t for t in trials if t.experiment.starts is None or t.experiment.starts <= now)

    def under(self, assigned: Iterable[Assigned]) -> "Catalog":
        """The same as these variants have it; each combination is made once, and without rules compiled anew."""
        found = [(each.experiment, each.variant) for each in assigned if each.experiment in self.experiments]
        names = tuple(name for name in found if self.experiments[name[0]].experiment.variant(name[1]).changes)
        if not names:
            return self
        made = self._under.get(names)
        if made is None:
            made = self._under[names] = self._changed(names)
        return made

    def _changed(self, names: Sequence[tuple[str, str]]) -> "Catalog":
        """As the variants of these experiments have it, wherever those run; see `experiment_content.Variant`."""
        made = copy(self)
        placements, actions, models = dict(self.placements), dict(self.actions), dict(self.models)
        limits: dict[str, int] = {}
        treatments: dict[tuple[str, str], Treatment] = {}
        for experiment_id, variant_id in names:
            experiment = self.experiments[experiment_id].experiment
            variant = experiment.variant(variant_id)
            for place in experiment.placements or tuple(placements):
                if variant.exploration is not None:
                    placements[place] = replace(placements[place], exploration=variant.exploration)
                if variant.model is not None:
                    models[place] = variant.model
                treatments |= _treatments(variant, actions, placements[place])
            for action_id, lever in variant.levers.items():
                actions[action_id] = replace(actions[action_id], lever=lever)
            limits |= variant.limits
        policies = tuple(replace(cap, limit=limits.get(cap.id, cap.limit)) for cap in self.content.contact_policies)
        made.placements, made.actions, made.models = placements, actions, models
        made.content = replace(
            self.content,
            placements=tuple(placements.values()),
            actions=tuple(actions.values()),
            contact_policies=policies,
        )
        made.caps = Caps(policies)
        made._treatments = self._treatments | treatments
        made._proposals = {
            action_id: proposal._replace(action=actions[action_id]) for action_id, proposal in self._proposals.items()
        }
        made._offered = {}
        made._under = {}
        return made

    def offered(self, placement: Placement) -> Offered:
        """Every action as this placement would show it."""
        found = self._offered.get(placement.id)
        if found is None:  # of variants, which are met in one placement
            found = self._offered[placement.id] = self._offers(self.placements[placement.id])
        return found

    def proposal(self, action_id: str, placement: Placement) -> Proposal | None:
        """One action as this placement would show it, whatever its status; None where it has no rendering."""
        base = self._proposals[action_id]
        treatment = self._treatments.get((action_id, placement.id))
        if treatment is None and not base.action.is_no_action:
            return None
        counted_by: dict[CountedPer, str] = {
            "any": "",
            "channel": placement.channel,
            "group": base.action.group,
            "goal": base.action.goal,
            "action": action_id,
        }
        return base._replace(
            treatment=treatment, treatment_id=treatment.id if treatment else None, counted_by=counted_by
        )

    def scope(
        self, *, now: datetime, customer: Mapping[str, Any], account: Mapping[str, Any], context: Mapping[str, Any]
    ) -> RuleScope:
        """What this catalogue's rules see, of features of the customer and the account and of the context."""
        if self._lists:
            known = {"customer": dict(customer), "account": dict(account)}
            for root, name in self._lists:
                if known[root].get(name) is None:
                    known[root][name] = ()
            customer, account = known["customer"], known["account"]
        # A caller writes 120 for 120.0, and CEL does not calculate with both.
        sent = {name: float(v) if type(v) is int else v for name, v in context.items()}
        return RuleScope(now=now, customer=customer, account=account, context=sent, named=self.named_features)

    def treatment(self, action_id: str, placement_id: str) -> Treatment | None:
        """The action's rendering for the placement, if it has one."""
        return self._treatments.get((action_id, placement_id))

    def _charge(self, action: Action) -> float:
        if action.budget is None:
            return 0.0
        return 1.0 if self.budgets[action.budget].counts == "contacts" else action.cost

    def _offers(self, placement: Placement) -> Offered:
        live: list[Proposal] = []
        previewed: list[Proposal] = []
        dropped: list[Drop] = []
        for action in self.content.actions:
            proposal = self.proposal(action.id, placement)
            if action.status not in ("live", "approved"):
                dropped.append(Drop(action.id, "candidates", "NOT_LIVE", f"status is {action.status}"))
            elif proposal is None:
                dropped.append(Drop(action.id, "candidates", "NO_TREATMENT", f"no treatment for {placement.id}"))
            else:
                (live if action.status == "live" else previewed).append(proposal)
        dated = any(p.action.valid_from or p.action.valid_until for p in (*live, *previewed))
        counting_as: dict[tuple[CountedPer, str], tuple[str, ...]] = {}
        for proposal in (*live, *previewed):
            for counted in proposal.counted_by.items():
                counting_as[counted] = (*counting_as.get(counted, ()), proposal.action.id)
        screened = screen([_screened(proposal) for proposal in live])
        return Offered(tuple(live), tuple(previewed), tuple(dropped), dated, screened, counting_as)


def _treatments(
    variant: Variant, actions: Mapping[str, Action], placement: Placement
) -> dict[tuple[str, str], Treatment]:
    """What the variant shows actions with here, of treatments that can be shown here."""
    return {
        (action_id, placement.id): treatment
        for action_id, treatment_id in variant.treatments.items()
        for treatment in actions[action_id].treatments
        if treatment.id == treatment_id
        and (
            placement.id in treatment.placements
            or (not treatment.placements and treatment.channel == placement.channel)
        )
    }


def _screened(proposal: Proposal) -> Screened:
    """What becomes of a proposal by its rules alone; not where they are too many, or say what it is worth."""
    weights, action_id = proposal.weights, proposal.action.id
    if proposal.value_rule is not None or len(weights) > MAX_SWITCHES:
        return Screened([], [], [None])
    outcomes = []
    for which in range(1 << len(weights)):
        weight = math.prod((factor for bit, (_, factor) in enumerate(weights) if which >> bit & 1), start=1.0)
        outcomes.append(Eligible(proposal, weight, proposal.value))
    asked = [(rule.source, not_engaged(action_id, part, rule)) for part, rule in proposal.engagement]
    return Screened(asked, [rule.source for rule, _ in weights], outcomes)


def not_engaged(action_id: str, part: Part, rule: Rule) -> Drop:
    """What an action is dropped with that a part of its engagement policy is not for."""
    return Drop(action_id, "engagement_policy", part.upper(), rule.shown)


def localised(treatment: Treatment, locales: Sequence[str]) -> dict[str, Any]:
    """The treatment's content in the first of these that it has, each as `de-AT`, else `de`; else as it stands.

    >>> button = Treatment("b", "web", {"text": "Go", "link": "/x"}, locales={"de": {"text": "Los"}})
    >>> localised(button, ["fr", "de_at"])
    {'text': 'Los', 'link': '/x'}
    """
    if treatment.locales:
        known = {locale.lower(): content for locale, content in treatment.locales.items()}
        for locale in locales:
            wanted = locale.replace("_", "-").lower()
            while wanted:
                if wanted in known:
                    return {**treatment.content, **known[wanted]}
                wanted = wanted.rpartition("-")[0]
    return treatment.content


class Release:
    """The catalogues of all markets, released together.

    Attributes:
        version: `sha256:` and the hash of all contents.
        markets: By id; the blueprint is one of them.
        event_features: Those over events, ready to be computed; None where none are declared.
        everywhere: The blueprint, with the entries that only markets have, and sends exploring by members where
            any market lets them. What is learnt is learnt of all markets together, so the model's input is made with it
            wherever it is asked.
        vocabulary: What the sources of events mean; events are the same in every market.

    Raises:
        CatalogError: With every mistake in every market.
    """

    def __init__(self, contents: Mapping[str, Content], *, version: str) -> None:
        self.version = version
        self.markets: dict[str, Catalog] = {}
        found: list[str] = []
        shared: list[CompiledRules] = []
        for market, content in contents.items():
            features = content.rule_features()
            rules = next((rules for rules in shared if rules.features == features), None)
            if rules is None:
                rules = CompiledRules(features)
                shared.append(rules)
            try:
                self.markets[market] = Catalog(content, version=version, rules=rules)
            except CatalogError as error:
                found += [said if market == BLUEPRINT else f"market {market}: {said}" for said in error.mistakes]
        if found:
            raise CatalogError(found)
        self.everywhere = self._everywhere(shared)
        ours = self.blueprint.content
        of_markets = {name: c.content.market_currency for name, c in self.markets.items() if c.content.market_currency}
        self.vocabulary = Vocabulary(ours.sources, Currencies(ours.currency, ours.rates, of_markets))
        self.event_features = EventFeatures(ours.event_features) if ours.event_features else None

    @property
    def blueprint(self) -> Catalog:
        """The catalogue that the markets start from; it also serves requests that name no market."""
        return self.markets[BLUEPRINT]

    @property
    def domain(self) -> str:
        """What the catalogue is of."""
        return self.blueprint.content.domain

    def of(self, market: str | None) -> Catalog:
        """A market's catalogue; without a name, the blueprint.

        Raises:
            RequestError: There is no such market.
        """
        if market is None:
            return self.blueprint
        if market not in self.markets:
            allowed = ", ".join(sorted(self.markets))
            raise RequestError(f"market is '{market}', must be one of {allowed} or left out", where="market")
        return self.markets[market]

    @property
    def by_members(self) -> dict[str, ExplorationPolicy]:
        """By id, the placements that explore by an ensemble's members in any market, and their policy there."""
        return {
            placement_id: policy
            for catalog in self.markets.values()
            for placement_id, policy in catalog.content.explorations
            if policy.by_members
        }

    def _everywhere(self, shared: "list[CompiledRules]") -> Catalog:
        whole = self.blueprint.content
        for catalog in self.markets.values():
            content = catalog.content
            more: dict[str, Any] = {
                name: tuple(dict.fromkeys((*getattr(whole, name), *getattr(content, name))))
                for name in ("groups", "goals")
            }
            for name in ("channels", "placements", "actions", "budgets", "journeys", "audiences"):
                ids = {entry.id for entry in getattr(whole, name)}
                more[name] = (*getattr(whole, name), *(e for e in getattr(content, name) if e.id not in ids))
            whole = replace(whole, **more)
        by_members = self.by_members
        placements = (
            replace(each, exploration=by_members[each.id]) if each.id in by_members and each.is_push else each
            for each in whole.placements
        )
        whole = replace(whole, placements=tuple(placements))
        if whole == self.blueprint.content:
            return self.blueprint
        return Catalog(replace(whole, approvers=()), version=self.version, rules=shared[0])


class CompiledRules:
    """Rules by their text, each checked and compiled once for all actions and markets."""

    def __init__(self, features: FeatureTypes | None) -> None:
        self.features = features
        self._types = RuleTypes(features)
        self._checked: dict[tuple[str, str], str] = {}
        self._compiled: dict[str, Rule] = {}

    def checked(self, source: str, *, gives: Literal["truth", "number"], shown: str) -> str:
        """See `RuleTypes.checked`."""
        known = self._checked.get((source, gives))
        if known is None:
            known = self._checked[source, gives] = self._types.checked(source, gives=gives, shown=shown)
        return known

    def compiled(self, source: str, *, shown: str | None) -> Rule:
        """The rule of this text, which is what is run."""
        known = self._compiled.get(source)
        if known is None:
            known = self._compiled[source] = Rule(source, shown=shown)
        return known


class _Compiler:
    """Compiles a catalogue's rules and collects what is wrong with them."""

    def __init__(self, content: Content, found: list[str], rules: CompiledRules) -> None:
        self._content = content
        self._found = found
        self._rules = rules
        self._used: dict[str, Rule] = {}
        # A mistake in an audience is told once, not again for every rule that asks for it.
        self._own = {audience.id: self._own_rule(audience) for audience in content.audiences}
        self._exclusions = {audience.id: audience.exclusions for audience in content.audiences}
        self._members: dict[str, str] = {}
        for audience in content.audiences:
            self._members_of(audience.id, ())

    @property
    def compiled(self) -> list[Rule]:
        return list(self._used.values())

    def rule(
        self,
        path: str,
        source: str,
        *,
        action: Mapping[str, Any] | None = None,
        gives: Literal["truth", "number"] = "truth",
    ) -> Rule:
        """The compiled rule; `false` where it is wrong, which is then among the mistakes."""
        try:
            ready = expanded(source, action=action, audience=self._audience)
            return self._kept(self._rules.checked(ready, gives=gives, shown=source), source)
        except ValueError as error:
            self._found.append(f"{path}: {error}")
            return self._kept("false", source)

    def engagement(self, action: Action) -> tuple[tuple[Part, Rule], ...]:
        sources = ((part, getattr(action, part)) for part in PARTS)
        return tuple(
            (part, self.rule(f"actions[{action.id}].{part}", source, action=action.scope()))
            for part, source in sources
            if source != "true"
        )

    def weights(self, action: Action) -> tuple[tuple[Rule, float], ...]:
        return tuple(
            (
                self.rule(f"actions[{action.id}].context_weights[{place}].when", weight.when, action=action.scope()),
                weight.weight,
            )
            for place, weight in enumerate(action.context_weights)
        )

    def value(self, action: Action) -> tuple[float, Rule | None, float]:
        """The value in the catalogue's currency, or the rule that gives it, and what it is multiplied by."""
        content = self._content
        currency = action.currency or content.market_currency or content.currency
        rate = 1.0 if currency == content.currency else content.rates.get(currency, 1.0)
        if not isinstance(action.value, str):
            return action.value * rate, None, rate
        path = f"actions[{action.id}].value"
        return 0.0, self.rule(path, action.value, action=action.scope(), gives="number"), rate

    def stage(self, journey: Journey, stage: Stage, part: Literal["entry", "exit"]) -> Rule:
        return self.rule(f"journeys[{journey.id}].stages[{stage.id}].{part}", getattr(stage, part))

    def moment(self, moment: Moment) -> Rule:
        path = f"moments[{moment.id}].when"
        rule = self.rule(path, moment.when)
        for root, name in sorted(rule.names):
            self._found.append(
                f"{path}: names {root}.{name}; it sees what the event says, as context.value: what the customer must"
                " be like stands in the actions' rules"
            )
        return rule

    def experiment(self, experiment: Experiment) -> Rule | None:
        if experiment.eligibility == "true":
            return None
        return self.rule(f"experiments[{experiment.id}].eligibility", experiment.eligibility)

    def audience(self, audience: Audience) -> Rule:
        """Whether somebody is in the audience, its exclusions included."""
        return self._kept(self._members[audience.id], audience.rule)

    def _audience(self, audience_id: str) -> str:
        if audience_id not in self._members:
            allowed = ", ".join(sorted(self._members)) or "(none)"
            raise ValueError(f"there is no audience '{audience_id}', must be one of {allowed}")
        return self._members[audience_id]

    def _own_rule(self, audience: Audience) -> str:
        """The audience's rule, checked by itself: only then may it be put into another one."""
        try:
            if audiences_in(audience.rule):
                raise ValueError(f"'{audience.rule}' asks for another audience; use `exclusions`")
            ready = expanded(audience.rule, action=None, audience=str)
            checked = self._rules.checked(ready, gives="truth", shown=audience.rule)
            self._rules.compiled(checked, shown=audience.rule)
            return checked
        except ValueError as error:
            self._found.append(f"audiences[{audience.id}].rule: {error}")
            return "false"

    def _members_of(self, audience_id: str, within: tuple[str, ...]) -> str:
        """Its rule without those who are in an exclusion; a circle of exclusions is a mistake by itself."""
        if audience_id not in self._own or audience_id in within:
            return "false"
        known = self._members.get(audience_id)
        if known is None:
            excluded = (self._members_of(name, (*within, audience_id)) for name in self._exclusions[audience_id])
            known = f"({self._own[audience_id]})" + "".join(f" && !({rule})" for rule in excluded)
            if len(known) > MAX_EXPANDED:
                self._found.append(
                    f"audiences[{audience_id}].exclusions: the rule has {len(known)} characters with them,"
                    f" at most {MAX_EXPANDED} go"
                )
                known = "false"
            self._members[audience_id] = known
        return known

    def _kept(self, source: str, shown: str | None) -> Rule:
        rule = self._used[source] = self._rules.compiled(source, shown=shown)
        return rule
