"""What a marketer writes of an experiment: who takes part, what differs, how it is judged."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from decisioning.content_types import BUCKETS, Cel, Id, Name, NonNegative, Person, PositiveNumber, Share
from decisioning.exploration import ExplorationPolicy

Alias = Literal["champion", "challenger"]
ExperimentUnit = Literal["customer", "account", "session"]
UNSUBSCRIBES = "unsubscribes"  # the guardrail of every experiment that names none


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The universal control: this share of all units gets fallback actions alone, always the same units."""

    share: Share = 0.05
    salt: str = "holdout"


class GroupHoldout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A control of some groups of actions: this share of all units gets no action of them, in any experiment."""

    id: Id
    groups: Annotated[tuple[Id, ...], msgspec.Meta(min_length=1)]
    share: Share
    salt: str = ""

    @property
    def salted(self) -> str:
        """What its buckets are made with."""
        return self.salt or self.id


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Experiments of one layer share its units out among them; those of two layers know nothing of each other."""

    id: Id
    salt: str = ""

    @property
    def salted(self) -> str:
        """What its buckets are made with."""
        return self.salt or self.id


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is measured of a unit, from its first exposure on.

    Attributes:
        of: An outcome type (`purchase`), or an event of a source (`order_completed`).
        measure: `rate`, whether there was one; `count`, how many; `sum`, what their values add up to;
            `ratio`, how many for each of `per`.
        per: Of a ratio, what it is divided by: an outcome type or an event.
        better: Which way is good.
        within: So long after the first exposure it counts; absent, until the experiment ends.
        cap: Of a sum or count, at most so much of one unit: a single basket must not decide.
    """

    id: Id
    of: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    measure: Literal["rate", "count", "sum", "ratio"] = "rate"
    per: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    better: Literal["higher", "lower"] = "higher"
    within: timedelta | None = None
    cap: PositiveNumber | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment's arm, and what differs in it; what it does not name stays as the catalogue has it.

    Attributes:
        weight: Its share of the units, beside the other variants' weights.
        payload: For the caller.
        levels: Of an experiment with factors, the level of each.
        exploration: The exploration policy of the experiment's placements.
        model: The model that scores there.
        levers: By action, its lever.
        treatments: By action, the treatment that it is shown with.
        limits: By contact policy, its limit.
    """

    id: Id
    weight: PositiveNumber = 1.0
    payload: dict[str, Any] = {}
    levels: dict[Id, Name] = {}
    exploration: ExplorationPolicy | None = None
    model: Alias | None = None
    levers: dict[Id, NonNegative] = {}
    treatments: dict[Id, Id] = {}
    limits: dict[Id, Annotated[int, msgspec.Meta(ge=0)]] = {}

    @property
    def changes(self) -> bool:
        """Whether it changes anything of the catalogue."""
        named = self.levers or self.treatments or self.limits
        return bool(named) or self.exploration is not None or self.model is not None


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A randomised comparison.

    Attributes:
        version: What moves units (variants, weights, salt, unit, place in the layer, less traffic) cannot be
            changed while it runs, but in a new version, which begins anew with other units in each variant.
        owner, hypothesis: Whom to ask, and what is expected.
        salt: Keeps experiments independent; the id when absent. From version 2 on the version is added to it.
        placements: Where it runs; empty: everywhere.
        unit: Who is assigned: the person, the person's account, or the session (`session_id` in the context).
        layer: Whose units it shares with other experiments; `slice` is its part of them, from (included) and to.
        traffic: The share of its units that take part. More may be let in while it runs; nobody leaves.
        eligibility: Only units for which this holds when they are met (CEL).
        variants: The first is the control.
        factors: Of a multivariate experiment, each factor's levels; the first is the control's.
        testers: By unit, the variant that it gets whatever its bucket; left out of the analysis.
        metric: What decides it; `guardrails` must not become worse.
        minimum_effect: The smallest relative change that matters: 0.05 is 5 %.
        starts, length: When it begins, and how long it is planned to run.
    """

    id: Id
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    status: Literal["draft", "running", "stopped"] = "draft"
    owner: Person = "unknown"
    hypothesis: str = ""
    salt: str = ""
    placements: tuple[Id, ...] = ()
    unit: ExperimentUnit = "customer"
    layer: Id | None = None
    slice: tuple[Share, Share] = (0.0, 1.0)
    traffic: Share = 1.0
    eligibility: Cel = "true"
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(min_length=1)]
    factors: dict[Id, Annotated[tuple[Name, ...], msgspec.Meta(min_length=2)]] = {}
    testers: dict[str, Id] = {}
    metric: Id | None = None
    guardrails: tuple[Id, ...] = (UNSUBSCRIBES,)
    minimum_effect: PositiveNumber | None = None
    starts: datetime | None = None
    length: timedelta | None = None

    @property
    def salted(self) -> str:
        """What its buckets are made with.

        >>> Experiment(id="hero", version=2, variants=(Variant(id="a"),)).salted
        'hero/2'
        """
        salt = self.salt or self.id
        return salt if self.version == 1 else f"{salt}/{self.version}"

    def variant(self, variant_id: str) -> Variant:
        """One of its variants.

        Raises:
            KeyError: It has none of this id.
        """
        for variant in self.variants:
            if variant.id == variant_id:
                return variant
        raise KeyError(variant_id)


def variant_ends(experiment: Experiment) -> tuple[int, ...]:
    """The bucket at which each variant ends, exclusive, in proportion to the weights; the last is 10,000.

    >>> variant_ends(Experiment(id="e", variants=(Variant(id="a"), Variant(id="b", weight=3.0))))
    (2500, 10000)
    """
    largest = max(variant.weight for variant in experiment.variants)
    weights = [variant.weight / largest for variant in experiment.variants]  # their sum must not overflow
    reached = [sum(weights[: number + 1]) / sum(weights) for number in range(len(weights))]
    return tuple(round(share * BUCKETS) for share in reached)
