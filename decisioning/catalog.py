"""A catalogue as the funnel uses it: checked, with rules compiled and everything known at load worked out.

One `Catalog` is one market's. A `Release` holds those of all markets under one version.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from decisioning.caps import Caps
from decisioning.catalog_checks import mistakes
from decisioning.content import (
    BLUEPRINT,
    Action,
    Audience,
    Content,
    CountedPer,
    FeatureTypes,
    Journey,
    Placement,
    Stage,
    Treatment,
)
from decisioning.direct_rules import Direct, together
from decisioning.errors import CatalogError, RequestError
from decisioning.reasons import Drop
from decisioning.rule_types import RuleTypes
from decisioning.rules import MAX_EXPANDED, Rule, audiences_in, conjunction, expanded

Part = Literal["eligibility", "applicability", "suitability"]
PARTS: tuple[Part, ...] = ("eligibility", "applicability", "suitability")


class Proposal(NamedTuple):
    """An action as it would be shown in one placement, with its rules compiled for it.

    Attributes:
        engagement: The rules that can be false, each with its part. `engaged` is true where all are.
        weights: Rules and the context weights that they switch on.
        value: In the catalogue's currency, or `value_rule` gives it, to be multiplied by `rate`.
        counted_by: What a contact with it counts as, for every `per` of a contact policy.
        gated: Whether purchases, journey stages or buying roles can rule it out.
    """

    action: Action
    treatment: Treatment | None
    engagement: tuple[tuple[Part, Rule], ...]
    engaged: Rule | None
    weights: tuple[tuple[Rule, float], ...]
    value: float
    value_rule: Rule | None
    rate: float
    counted_by: Mapping[CountedPer, str]
    gated: bool

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What is asked of a customer to whom it may be shown."""
        asked = (self.engaged, *(rule for rule, _ in self.weights), self.value_rule)
        return tuple(rule for rule in asked if rule is not None)


class Offered(NamedTuple):
    """What a placement can get at all: proposals, and everything else with why not.

    `previewed` are those that are approved but not live yet. `dated` is whether any proposal has a
    time before or after which it is none. `rules` are all of those that are live, evaluated together.
    """

    live: tuple[Proposal, ...]
    previewed: tuple[Proposal, ...]
    dropped: tuple[Drop, ...]
    dated: bool
    rules: Direct


class Catalog:
    """Checked content with compiled rules and look-ups by id.

    Attributes:
        content: What the files say.
        version: `sha256:` and the hash of the release.

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
        self.budgets = {budget.id: budget for budget in content.budgets}
        self.caps = Caps(content.contact_policies)
        found = mistakes(content)
        compiler = _Compiler(content, found, rules or CompiledRules(content.features))
        engagement = {action.id: compiler.engagement(action) for action in content.actions}
        engaged = {action.id: compiler.all_of(action, engagement[action.id]) for action in content.actions}
        weights = {action.id: compiler.weights(action) for action in content.actions}
        values = {action.id: compiler.value(action) for action in content.actions}
        self.stages = {stage.id: stage for journey in content.journeys for stage in journey.stages}
        self.stage_rules = {
            stage.id: (compiler.stage(journey, stage, "entry"), compiler.stage(journey, stage, "exit"))
            for journey in content.journeys
            for stage in journey.stages
        }
        self.audiences = {audience.id: compiler.audience(audience) for audience in content.audiences}
        if found:
            raise CatalogError(sorted(set(found), key=found.index))
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
        # A feature that is not known is null, and a list that is not known is empty.
        self.named_lists = frozenset(
            (root, name)
            for root, name in self.named_features
            if content.features is not None and getattr(content.features, root).get(name) == "texts"
        )
        self.named_of_customer = tuple(sorted(name for root, name in self.named_features if root == "customer"))
        self.named_of_account = tuple(sorted(name for root, name in self.named_features if root == "account"))
        self._proposals = {
            action.id: Proposal(
                action=action,
                treatment=None,
                engagement=engagement[action.id],
                engaged=engaged[action.id],
                weights=weights[action.id],
                value=values[action.id][0],
                value_rule=values[action.id][1],
                rate=values[action.id][2],
                counted_by={},
                gated=bool(action.promotes or action.stages or action.buying_roles),
            )
            for action in content.actions
        }
        self._offered = {placement.id: self._offers(placement) for placement in content.placements}

    def offered(self, placement: Placement) -> Offered:
        """Every action as this placement would show it."""
        return self._offered[placement.id]

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
        return base._replace(treatment=treatment, counted_by=counted_by)

    def treatment(self, action_id: str, placement_id: str) -> Treatment | None:
        """The action's rendering for the placement, if it has one."""
        return self._treatments.get((action_id, placement_id))

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
        rules = dict.fromkeys(rule.source for proposal in live for rule in proposal.rules)
        return Offered(tuple(live), tuple(previewed), tuple(dropped), dated, together(rules))


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
        everywhere: The blueprint, with the entries that only markets have. What is learnt is learnt
            of all markets together, so the model's input is made with it wherever it is asked.

    Raises:
        CatalogError: With every mistake in every market.
    """

    def __init__(self, contents: Mapping[str, Content], *, version: str) -> None:
        self.version = version
        self.markets: dict[str, Catalog] = {}
        found: list[str] = []
        shared: list[CompiledRules] = []
        for market, content in contents.items():
            rules = next((rules for rules in shared if rules.features == content.features), None)
            if rules is None:
                rules = CompiledRules(content.features)
                shared.append(rules)
            try:
                self.markets[market] = Catalog(content, version=version, rules=rules)
            except CatalogError as error:
                found += [said if market == BLUEPRINT else f"market {market}: {said}" for said in error.mistakes]
        if found:
            raise CatalogError(found)
        self.everywhere = self._everywhere(shared)

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
            whole = msgspec.structs.replace(whole, **more)
        if whole == self.blueprint.content:
            return self.blueprint
        return Catalog(msgspec.structs.replace(whole, approvers=()), version=self.version, rules=shared[0])


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

    def all_of(self, action: Action, parts: tuple[tuple[Part, Rule], ...]) -> Rule | None:
        if not parts:
            return None
        try:
            return self._kept(conjunction(rule for _, rule in parts), None)
        except ValueError as error:
            self._found.append(f"actions[{action.id}]: eligibility, applicability and suitability together: {error}")
            return None

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
