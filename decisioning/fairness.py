"""Whether groups of customers are treated alike: ratios between groups, with intervals that know who is who.

A measure is a share or a mean of what decisions gave, such as how often anything was shown. Each group's is
divided by that of the largest group. Decisions of one customer are not independent, so intervals are over
customers; and the more ratios are looked at together, the wider each interval.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from decisioning.errors import DataError

Floats = NDArray[np.float64]
# Of the largest group's; US Equal Employment Opportunity Commission, *Uniform Guidelines*, 29 CFR 1607.4 D.
FOUR_FIFTHS = 0.8
FEWEST_CUSTOMERS = 100  # of a group that is judged
LEVEL = 0.95  # of all intervals together


class Measured(msgspec.Struct, frozen=True):
    """What a measure counts in each decision, `(n,)` both: its value is the ratio of their sums.

    `share`: each part of `numerator` is between 0 and that of `denominator`.
    """

    numerator: Floats
    denominator: Floats
    share: bool = True


class GroupRatio(msgspec.Struct, frozen=True, kw_only=True):
    """One group and measure beside the largest group's.

    Attributes:
        value: The group's own.
        ratio: To the largest group's, with `low` and `high` at `level`. None where the group is the largest, or
            too small to be judged, or nothing can be said.
        judged: Whether it is the largest group, or has enough customers.
    """

    attribute: str
    measure: str
    group: str
    reference: str
    decisions: int
    customers: int
    value: float
    judged: bool
    level: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None

    def lies_below(self, floor: float) -> bool:
        """Whether the group gets measurably less than the largest, and less than this share of it."""
        return self.ratio is not None and self.ratio < floor and self.high is not None and self.high < 1.0

    def lies_above(self, floor: float) -> bool:
        """Whether the largest group gets measurably less than this one, and less than this share of it."""
        return self.ratio is not None and self.ratio > 1.0 / floor and self.low is not None and self.low > 1.0


def group_ratios(
    groups: Mapping[str, Sequence[str]], measures: Mapping[str, Measured], customer: NDArray[np.int64]
) -> tuple[GroupRatio, ...]:
    """Every measure of every group of every attribute; `groups` says of each decision which one it is in.

    The variance of the ratio's logarithm is that of its linearisation, summed by customer: Woodruff, *A Simple
    Method for Approximating the Variance of a Complicated Estimate*, JASA 1971; Cochran, *Sampling Techniques*,
    3rd ed., section 6.4. A group of which no customer has anything at all gets the bound below which so many
    customers would all have had nothing, for a share; nothing can be said of another measure. Intervals are
    Bonferroni's: they hold together at 95 %.

    >>> shown = Measured(np.tile([1.0, 1.0, 0.0, 1.0], 100), np.ones(400))
    >>> groups = {"region": ["north", "north", "south", "south"] * 100}
    >>> found = group_ratios(groups, {"exposure": shown}, np.arange(400))
    >>> [(each.group, each.value, each.ratio) for each in found]
    [('north', 1.0, None), ('south', 0.5, 0.5)]

    Raises:
        DataError: A measure has nothing to divide by, or another length.
    """
    found: list[GroupRatio] = []
    for attribute, names in groups.items():
        labels = np.asarray(names, dtype=object)
        if len(labels) != len(customer):
            raise DataError(f"'{attribute}' has {len(labels)} rows, must have {len(customer)} like the decisions")
        kinds, codes = np.unique(labels.astype(str), return_inverse=True)
        customers = np.array([len(np.unique(customer[codes == code])) for code in range(len(kinds))])
        largest = int(np.argmax(customers))
        for name, measured in measures.items():
            for code, kind in enumerate(kinds.tolist()):
                inside = codes == code
                below = float(measured.denominator[inside].sum())
                found.append(
                    GroupRatio(
                        attribute=attribute,
                        measure=name,
                        group=kind,
                        reference=str(kinds[largest]),
                        decisions=int(inside.sum()),
                        customers=int(customers[code]),
                        value=float(measured.numerator[inside].sum()) / below if below > 0.0 else float("nan"),
                        judged=bool(code == largest or customers[code] >= FEWEST_CUSTOMERS),
                        level=LEVEL,
                    )
                )
    compared = sum(each.judged and each.group != each.reference for each in found)
    level = 1.0 - (1.0 - LEVEL) / max(compared, 1)
    return tuple(_with_ratio(each, groups[each.attribute], measures[each.measure], customer, level) for each in found)


def judge_fairness(ratios: Sequence[GroupRatio], *, floor: float) -> tuple[str, ...]:
    """Why what these ratios say is not fair enough, a sentence each; empty where nothing speaks against it.

    A ratio counts against it that is beyond `floor` (or one over it) and measurably not 1.
    """
    wanted = f"it must be between {floor:g} and {1 / floor:.4g}"
    return tuple(
        f"{each.measure} of {each.attribute} '{each.group}' is {each.ratio:.2f} times that of '{each.reference}'"
        f" [{each.low:.2f}, {each.high:.2f}]; {wanted}"
        for each in ratios
        if each.lies_below(floor) or each.lies_above(floor)
    )


def _with_ratio(
    each: GroupRatio, names: Sequence[str], measured: Measured, customer: NDArray[np.int64], level: float
) -> GroupRatio:
    labels = np.asarray(names, dtype=object).astype(str)
    own, other = labels == each.group, labels == each.reference
    sums = (
        [measured.numerator[of].sum() for of in (own, other)],
        [measured.denominator[of].sum() for of in (own, other)],
    )
    (has, had), (of_own, of_other) = sums
    if not each.judged or each.group == each.reference or had <= 0.0 or of_own <= 0.0:
        return msgspec.structs.replace(each, level=level)
    reference = had / of_other
    ratio = float(has / of_own / reference)
    if has <= 0.0:
        most = -np.log((1.0 - level) / 2.0) / each.customers
        high = float(min(1.0, most) / reference) if measured.share else None
        return msgspec.structs.replace(each, level=level, ratio=0.0, low=0.0, high=high)
    influence = np.where(own, (measured.numerator - has / of_own * measured.denominator) / has, 0.0)
    influence -= np.where(other, (measured.numerator - reference * measured.denominator) / had, 0.0)
    _, codes = np.unique(customer, return_inverse=True)
    by_customer = np.bincount(codes, weights=influence)
    with_any = len(np.unique(customer[own | other]))
    error = float(np.sqrt(np.square(by_customer).sum() * with_any / max(with_any - 1, 1)))
    reach = float(norm.ppf(0.5 + level / 2.0)) * error
    return msgspec.structs.replace(
        each, level=level, ratio=ratio, low=ratio * float(np.exp(-reach)), high=ratio * float(np.exp(reach))
    )
