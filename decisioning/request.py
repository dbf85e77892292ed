"""What callers send: a request for a decision, and an outcome. Unknown fields are refused."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from decisioning.errors import RequestError
from decisioning.outcome_types import OutcomeDetail, OutcomeType

# An id goes into paths, logs and other systems: control characters are refused. (`$` would let a last
# newline through.)
CallerId = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+(?![\s\S])")]
# 64 bit: neither rules nor float32 know larger ones.
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Context = Annotated[dict[CallerId, bool | Integer | float | str | None], msgspec.Meta(max_length=100)]
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
Time = Annotated[datetime, msgspec.Meta(tz=True)]
PLAN_AHEAD = timedelta(days=30)


def sane(at: datetime, *, where: str) -> datetime:
    """A time that a caller gave, if it can be one.

    Raises:
        RequestError: It lies outside 2000 to 2100.
    """
    if not EARLIEST <= at < LATEST:
        raise RequestError(f"{where} is {at.isoformat()}, must lie between the years 2000 and 2100", where=where)
    return at


class DecisionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What should this customer see here?

    Attributes:
        placement: Where; or `placements`, several of them, decided in order with no action twice.
        limit: How many actions at most; the placement's slots when absent.
        context: Values of this moment. One that names a feature supplies it for this request.
        actions: Only these are candidates.
        exclude: These are not.
        decision_id: Makes the call repeatable: the same id and body get the first answer again.
        mode: `preview` decides without logging or reserving anything.
        planned_at: When a push placement's contact will be met: quiet hours and contact policies
            are judged then. Now, when absent.
        global_privacy_control: The customer's browser sends `Sec-GPC: 1`: decided without knowing whom for.
        now: For replays and tests.
    """

    placement: CallerId | None = None
    placements: Annotated[tuple[CallerId, ...], msgspec.Meta(min_length=1, max_length=20)] | None = None
    customer_id: CallerId | None = None
    anonymous_id: CallerId | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    context: Context = {}
    actions: Annotated[tuple[CallerId, ...], msgspec.Meta(min_length=1)] | None = None
    exclude: tuple[CallerId, ...] = ()
    decision_id: CallerId | None = None
    explain: bool = False
    market: CallerId | None = None
    mode: Literal["live", "preview"] = "live"
    planned_at: Time | None = None
    global_privacy_control: bool = False
    now: Time | None = None

    @property
    def unit(self) -> str:
        """Who is asked about: the customer, or else the anonymous visitor, whose id is no customer's.

        Raises:
            RequestError: Neither is named.
        """
        if self.customer_id is not None:
            return self.customer_id
        if self.anonymous_id is not None:
            return f"anonymous:{self.anonymous_id}"
        raise RequestError(
            "customer_id and anonymous_id are both missing, one of them must be given", where="customer_id"
        )

    def for_each_placement(self) -> "tuple[DecisionRequest, ...]":
        """One request a placement. Of several, each decision's id is the given one with its placement's.

        >>> both = DecisionRequest(customer_id="c", placements=("hero", "inbox"), decision_id="d")
        >>> [(one.placement, one.decision_id) for one in both.for_each_placement()]
        [('hero', 'd.hero'), ('inbox', 'd.inbox')]

        Raises:
            RequestError: Neither `placement` nor `placements` is given, or both, or one stands twice.
        """
        if (self.placement is None) == (self.placements is None):
            found = "missing" if self.placement is None else "given"
            raise RequestError(f"placement and placements are both {found}, one must be given", where="placement")
        if self.placements is None:
            return (self,)
        if len(set(self.placements)) < len(self.placements):
            raise RequestError("placements names one twice, must name each once", where="placements")
        return tuple(
            msgspec.structs.replace(
                self,
                placement=placement,
                placements=None,
                decision_id=None if self.decision_id is None else f"{self.decision_id}.{placement}",
            )
            for placement in self.placements
        )


class AssignmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """In which variants of which experiments is this customer?

    Attributes:
        placement: Only experiments that run there; wherever they run, when absent.
        experiments: Only these.
        context, global_privacy_control: As of a `DecisionRequest`.
    """

    customer_id: CallerId | None = None
    anonymous_id: CallerId | None = None
    placement: CallerId | None = None
    context: Context = {}
    market: CallerId | None = None
    experiments: Annotated[tuple[CallerId, ...], msgspec.Meta(min_length=1, max_length=100)] | None = None
    global_privacy_control: bool = False

    def at(self, placement: str) -> DecisionRequest:
        """The request for a decision there, which has the same assignments."""
        return DecisionRequest(
            placement=placement,
            customer_id=self.customer_id,
            anonymous_id=self.anonymous_id,
            context=self.context,
            market=self.market,
            global_privacy_control=self.global_privacy_control,
        )


class OutcomeReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the customer did with a decision.

    `action_id` may be left out where a decision showed one action; `outcome_id` makes the report
    repeatable; `occurred_at` is the time of arrival when absent. `value` is money or a count.
    """

    decision_id: CallerId
    type: OutcomeType
    action_id: CallerId | None = None
    outcome_id: CallerId | None = None
    detail: OutcomeDetail | None = None
    value: float | None = None
    occurred_at: Time | None = None
