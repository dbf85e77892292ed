"""A catalogue as the funnel uses it: checked, with rules compiled and everything known at load worked out.

One `Catalog` is one market's. A `Release` holds those of all markets under one version.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from decisioning.catalog_checks import mistakes
from decisioning.content import (
    BLUEPRINT,
    Action,
    Audience,
    Content,
    CountedPer,
    Locale,
    Placement,
    Stage,
    Treatment,
)
from decisioning.errors import CatalogError, RequestError
from decisioning.reasons import Drop
from decisioning.rule_types import RuleTypes
from decisioning.rules import Rule, audiences_in, conjunction, expanded

Part = Literal["eligibility", "applicability", "suitability"]
PARTS: tuple[Part, ...] = ("eligibility", "applicability", "suitability")


class Proposal(NamedTuple):
    """An action as it would be shown in one placement, with its rules compiled for it.

    Attributes:
        engagement: The rules that can be false, each with its part. `engaged` is true where all are.
        weights: Rules and the context weights that they switch on.
        value: In the catalogue's currency, or `value_rule` gives it, to be multiplied by `rate`.
        counted_by: What a contact with it counts as, for every `per` of a contact policy.
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


class Offered(NamedTuple):
    """What a placement can get at all: proposals, and everything else with why not.

    `previewed` are those that are approved but not live yet.
    """

    live: tuple[Proposal, ...]
    previewed: tuple[Proposal, ...]
    dropped: tuple[Drop, ...]


class Catalog:
    """Checked content with compiled rules and look-ups by id.

    Attributes:
        content: What the files say.
        version: `sha256:` and the hash of the release.

    Raises:
        CatalogError: With every mistake, each with its path and what is allowed.
    """

    def __init__(self, content: Content, *, version: str) -> None:
        self.content = content
        self.version = version
        self.channels = {channel.id: channel for channel in content.channels}
        self.placements = {placement.id: placement for placement in content.placements}
        self.actions = {action.id: action for action in content.actions}
        self.budgets = {budget.id: budget for budget in content.budgets}
        self.audiences: dict[str, Rule] = {}
        found = mistakes(content)
        compiler = _Compiler(content, found)
        engagement = {action.id: compiler.engagement(action) for action in content.actions}
        weights = {action.id: compiler.weights(action) for action in content.actions}
        values = {action.id: compiler.value(action) for action in content.actions}
        self.stages = {stage.id: stage for journey in content.journeys for stage in journey.stages}
        self.stage_rules = {
            stage.id: (compiler.stage(stage, "entry"), compiler.stage(stage, "exit"))
            for journey in content.journeys
            for stage in journey.stages
        }
        for audience in content.audiences:
            rule = compiler.rule(f"audiences[{audience.id}].rule", f"in_audience('{audience.id}')", shown=audience.rule)
            self.audiences[audience.id] = rule
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
        self._proposals = {
            action.id: Proposal(
                action=action,
                treatment=None,
                engagement=engagement[action.id],
                engaged=compiler.all_of(engagement[action.id]),
                weights=weights[action.id],
                value=values[action.id][0],
                value_rule=values[action.id][1],
                rate=values[action.id][2],
                counted_by={},
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
        return Offered(tuple(live), tuple(previewed), tuple(dropped))


def localised(treatment: Treatment, *, locale: str) -> dict[str, Any]:
    """The treatment's content in this language: `de-AT`, else `de`, else as it stands.

    >>> button = Treatment("b", "web", {"text": "Go", "link": "/x"}, locales={"de": {"text": "Los"}})
    >>> localised(button, locale="de-AT")
    {'text': 'Los', 'link': '/x'}
    """
    while locale:
        if locale in treatment.locales:
            return {**treatment.content, **treatment.locales[locale]}
        locale = locale.rpartition("-")[0]
    return treatment.content


class Release:
    """The catalogues of all markets, released together.

    Raises:
        CatalogError: With every mistake in every market.
    """

    def __init__(self, contents: Mapping[Locale, Content], *, version: str) -> None:
        self.version = version
        self.markets: dict[str, Catalog] = {}
        found: list[str] = []
        for market, content in contents.items():
            try:
                self.markets[market] = Catalog(content, version=version)
            except CatalogError as error:
                found += [said if market == BLUEPRINT else f"market {market}: {said}" for said in error.mistakes]
        if found:
            raise CatalogError(found)

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


class _Compiler:
    """Compiles rules, each distinct one once, and collects what is wrong with them."""

    def __init__(self, content: Content, found: list[str]) -> None:
        self._content = content
        self._found = found
        self._types = RuleTypes(content.features)
        self._rules: dict[str, Rule] = {}
        self._audiences = {audience.id: audience for audience in content.audiences}

    @property
    def compiled(self) -> list[Rule]:
        return list(self._rules.values())

    def rule(
        self,
        path: str,
        source: str,
        *,
        action: Mapping[str, Any] | None = None,
        gives: Literal["truth", "number"] = "truth",
        shown: str | None = None,
    ) -> Rule:
        """The compiled rule; `false` where it is wrong, which is then among the mistakes."""
        try:
            ready = expanded(source, action=action or {}, audience=self._audience)
            return self._kept(self._types.checked(ready, gives=gives, shown=shown or source), shown or source)
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

    def all_of(self, parts: tuple[tuple[Part, Rule], ...]) -> Rule | None:
        return self._kept(conjunction(rule for _, rule in parts), None) if parts else None

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

    def stage(self, stage: Stage, part: Literal["entry", "exit"]) -> Rule:
        return self.rule(f"stages[{stage.id}].{part}", getattr(stage, part))

    def _audience(self, audience_id: str) -> str:
        audience: Audience | None = self._audiences.get(audience_id)
        if audience is None:
            allowed = ", ".join(sorted(self._audiences)) or "(none)"
            raise ValueError(f"there is no audience '{audience_id}', must be one of {allowed}")
        if audiences_in(audience.rule):
            raise ValueError(f"audience '{audience_id}' asks for another in its rule; use `exclusions`")
        excluded = "".join(
            f" && !({self._audiences[name].rule})" for name in audience.exclusions if name in self._audiences
        )
        return f"({audience.rule}){excluded}"

    def _kept(self, source: str, shown: str | None) -> Rule:
        known = self._rules.get(source)
        if known is None:
            known = self._rules[source] = Rule(source, shown=shown)
        return known
