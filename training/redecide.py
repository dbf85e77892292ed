"""A logged decision, decided again under another catalogue or another exploration policy.

Narrowed and planned with the facts of its record and the rules of the new catalogue. What its model
said of a candidate is taken from the record where it was asked, and asked of the same model where
not. Both policies state probabilities for the first slot.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from decisioning import decision as funnel
from decisioning.budget import released
from decisioning.case import UNSCORED, Case, assigned, reason_of, rule_scope
from decisioning.catalog import Catalog, Release
from decisioning.content_types import BLUEPRINT
from decisioning.decision import Narrowed, Plan
from decisioning.encoding import RowEncoder
from decisioning.errors import BundleError, CatalogError, RequestError, StoreError
from decisioning.exploration import ExplorationPolicy
from decisioning.profile import BudgetLeft, Facts
from decisioning.record import DecisionRecord
from decisioning.replay import facts_of, recorded_case
from decisioning.rules import Rule, RuleFailure, RuleScope
from training.scores_again import LeftOut, Model, ScoresAgain

NOTHING = "(nothing)"  # no answer at all; to show nothing is a choice of its own, `no_action`

Masses = dict[str, float]
KeyOf = Callable[[str], bytes | None]


class Shift(NamedTuple):
    """One decision's first slot under both catalogues; `drawn` are what the secret draws, if it is at hand."""

    record: DecisionRecord
    before: Masses
    after: Masses
    drawn: tuple[str, str] | None
    audiences: tuple[str, ...]

    @property
    def changed(self) -> float:
        """Total variation between both distributions."""
        return 0.5 * sum(abs(self.before.get(i, 0.0) - self.after.get(i, 0.0)) for i in {*self.before, *self.after})


class Redecision(ABC):
    """Decides logged decisions again under what `_asked` makes of them.

    Attributes:
        domain: Whose decisions these are.
        change: What is other than it was, for people.
        policy: The exploration policy of every placement and variant; None where it is theirs.
        assumed_full: Budgets of which the log knows nothing, found while deciding.
    """

    def __init__(
        self,
        domain: str,
        change: str,
        *,
        releases: Callable[[str], Release],
        models: Callable[[str], Model],
        key_of: KeyOf,
        policy: ExplorationPolicy | None = None,
    ) -> None:
        """Nothing is decided yet.

        Args:
            domain: See above.
            change: See above.
            releases: A logged decision's release by its version; StoreError where it is gone.
            models: The model of a bundle's hash; BundleError or StoreError where it cannot score.
            key_of: The secret of a `key_id`, or None.
            policy: See above.
        """
        self.domain = domain
        self.change = change
        self._releases = releases
        self._models = models
        self._key_of = key_of
        self._encoders: dict[str, RowEncoder] = {}
        self.policy = policy
        self.assumed_full: set[str] = set()

    def shift(self, record: DecisionRecord) -> Shift:
        """What becomes of one decision.

        Raises:
            LeftOut: It cannot be said.
        """
        old, case = self.catalog_of(record), self._asked(record)
        new = case.catalog
        facts = self._facts(record, old, new)
        case = assigned(case, facts)
        if self.policy is not None:
            case = case._replace(placement=msgspec.structs.replace(case.placement, exploration=self.policy))
        narrowed = funnel.narrow(case, facts)
        key = self._key_of(record.key_id)
        planned = self._plan(record, case, facts, narrowed, old, key or b"no secret")
        # What others took before the reservation was gone, whatever the catalogue said.
        available = record.slots[0].available if record.slots else ()
        lost = {each.action_id for place, each in enumerate(record.candidates) if place not in available}
        free = [place for place, e in enumerate(planned.eligible) if e.proposal.action.id not in lost]
        ids = [eligible.proposal.action.id for eligible in planned.eligible]
        first = next((ids[place] for place in planned.order if place in set(free)), NOTHING)
        after = {first: 1.0}
        if planned.drawn and free:
            after = _masses(ids, planned.spread.weights.tolist(), planned.spread.tiers.tolist(), free)
        shown = record.slots[0].action_id if record.slots else NOTHING
        scope = rule_scope(case, facts)
        return Shift(
            record,
            logged_masses(record),
            after,
            (shown, first) if key is not None or not planned.drawn else None,
            tuple(name for name, rule in new.audiences.items() if _is_in(rule, scope)),
        )

    def catalog_of(self, record: DecisionRecord) -> Catalog:
        """The catalogue that a decision was made under."""
        try:
            return self._releases(record.catalog_version).of(market_of(record))
        except (StoreError, CatalogError, RequestError) as error:
            raise LeftOut("its own catalogue cannot be read any more") from error

    def model_of(self, record: DecisionRecord) -> tuple[Model, RowEncoder]:
        """The model that a decision was scored with."""
        assert record.model is not None
        sha256 = record.model.bundle_sha256
        try:
            model = self._models(sha256)
        except (StoreError, BundleError) as error:
            raise LeftOut("its model is needed for actions that it had not scored, and cannot be loaded") from error
        if sha256 not in self._encoders:
            self._encoders[sha256] = RowEncoder(model.features)
        return model, self._encoders[sha256]

    @abstractmethod
    def _asked(self, record: DecisionRecord) -> Case:
        """The decision's case, changed as it is to be compared."""

    def _facts(self, record: DecisionRecord, old: Catalog, new: Catalog) -> Facts:
        """As logged; budgets that the new catalogue changes hold so much more or less, new ones all."""
        facts = facts_of(record)
        if facts.hot is None:
            return facts
        left = {entry.budget: entry.left for entry in record.budgets}
        for budget in new.budgets.values():
            before = old.budgets.get(budget.id)
            if budget.of != "everyone" or budget == before:
                continue
            now = released(budget, now=record.decided_at)
            if before is None or budget.id not in left:
                left[budget.id] = now
                self.assumed_full.add(budget.id)
            else:
                left[budget.id] = max(0.0, left[budget.id] + now - released(before, now=record.decided_at))
        budgets = tuple(BudgetLeft(name, amount) for name, amount in left.items())
        return msgspec.structs.replace(facts, hot=msgspec.structs.replace(facts.hot, budgets=budgets))

    def _plan(
        self, record: DecisionRecord, case: Case, facts: Facts, narrowed: Narrowed, old: Catalog, key: bytes
    ) -> Plan:
        reason = reason_of(case, facts, has_model=record.model is not None)
        if reason in UNSCORED:
            return funnel.plan_fallback(case, narrowed, reason)
        if not narrowed.has_choice:
            return funnel.NOTHING
        scores = ScoresAgain(record, case, facts, old, partial(self.model_of, record))
        actions = [eligible.proposal.action for eligible in narrowed.eligible]
        return funnel.plan(case, narrowed, scores.of(actions), key=key)


class Comparison(Redecision):
    """Decides logged decisions again under a new release; `new` is what would have been served."""

    def __init__(
        self, new: Release, *, releases: Callable[[str], Release], models: Callable[[str], Model], key_of: KeyOf
    ) -> None:
        super().__init__(new.domain, new.version, releases=releases, models=models, key_of=key_of)
        self.new = new

    def _asked(self, record: DecisionRecord) -> Case:
        try:
            new = self.new.of(market_of(record))
        except RequestError as error:
            raise LeftOut(f"the new catalogue has no market {record.market}") from error
        try:
            return recorded_case(record, new)
        except RequestError as error:
            raise LeftOut(f"the new catalogue lacks what the request names: {error.where}") from error


class PolicyComparison(Redecision):
    """Decides logged decisions again under the catalogue that they were made under, with another exploration policy.

    What was a candidate, what it was worth and what was available stay as they were logged.
    """

    def __init__(
        self,
        policy: ExplorationPolicy,
        domain: str,
        *,
        releases: Callable[[str], Release],
        models: Callable[[str], Model],
        key_of: KeyOf,
    ) -> None:
        named = msgspec.json.encode(policy).decode()
        super().__init__(domain, named, releases=releases, models=models, key_of=key_of, policy=policy)

    def _asked(self, record: DecisionRecord) -> Case:
        return recorded_case(record, self.catalog_of(record))


def market_of(record: DecisionRecord) -> str:
    """The market that a decision is of.

    Records from before markets name `default` and were asked for none: what serves such requests now
    is the blueprint.
    """
    return BLUEPRINT if record.market == "default" and record.request.market is None else record.market


def logged_masses(record: DecisionRecord) -> Masses:
    """With which probability each action was put into the first slot."""
    if not record.slots:
        return {NOTHING: 1.0}
    first = record.slots[0]
    if first.probability is None:
        return {first.action_id: 1.0}
    ids, weights, tiers = zip(*((c.action_id, c.weight, c.tier) for c in record.candidates), strict=True)
    return _masses(ids, weights, tiers, first.available)


def _masses(ids: Sequence[str], weights: Sequence[float], tiers: Sequence[int], free: Sequence[int]) -> Masses:
    """The distribution over who comes first among those that are free."""
    tier = min(tiers[place] for place in free)
    first = [place for place in free if tiers[place] == tier]
    total = sum(weights[place] for place in first)
    return {ids[place]: weights[place] / total for place in first}


def _is_in(rule: Rule, scope: RuleScope) -> bool:
    try:
        return rule.holds(scope)
    except RuleFailure:
        return False
