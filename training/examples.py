"""Training examples: one frame of decisions, whatever they come from.

One row is one action that a customer met, or one that a policy drew first and the customer did not
meet: models learn from the former, off-policy evaluation needs both. Columns:

| column | type | what |
|---|---|---|
| `row_id` | str | unique |
| `source` | `log` or `ledger` | a data set's own log, or our ledger |
| `customer_id` | str | whose decision it was |
| `decided_at` | datetime64[us, UTC] | when |
| `placement`, `channel` | str | where |
| `slot` | int | which position there, from 1 |
| `action_id` | str | what was shown |
| `probability` | float | chance of `action_id` in this slot; NaN where nothing was drawn |
| `candidates` | tuple of str | what could have been in this slot, `action_id` among them |
| `context_weights` | tuple of float | the candidates' context weights, in their order |
| `values` | tuple of float | what a success of each candidate was worth, in the catalogue's currency |
| `contacts` | tuple of Contact | the customer's contacts as they were then |
| `met` | bool | the customer met it; only such rows are learnt from (`met_by_customers`) |
| `reward` | float | what it earned within the attribution window |
| `success` | int | 1 where the reward is above 0: what the propensity model learns |
| `drawn` | bool | a policy drew it, so off-policy evaluation may weigh it |
| `context` | dict | what the caller sent; one column, since callers may send any number of names |
| `customer.<name>` | any | customer features as they were: as logged, joined point-in-time, or as the caller sent |
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from decisioning.catalog import Catalog, Proposal
from decisioning.eligibility import value_of
from decisioning.errors import DataError
from decisioning.feeds import Gap, Untold, left_out_lines
from decisioning.reward import closes_at
from decisioning.rules import RuleFailure, RuleScope
from storage.ledger.earned import EarningReader, earned
from training.collector import paused
from training.example_columns import Decided, ExampleColumns

CUSTOMER = "customer."
# Among a frame's `attrs`: lines that say how many decisions are not in it, since their outcomes were not told.
LEFT_OUT = "left_out"
# Bounds what one training holds in memory, however long a service has run; older habits tell little.
LEDGER_WINDOW = timedelta(days=180)
FEATURES_UNAVAILABLE = "FALLBACK_FEATURES_UNAVAILABLE"
_JOIN_KEYS = ("row_id", "customer_id", "event_timestamp")
_LOG_COLUMNS = (
    "row_id", "customer_id", "decided_at", "placement", "action_id", "probability", "candidates", "context",
    "contacts", "reward", "success",
)  # fmt: skip


def log_examples(log: pd.DataFrame, features: pd.DataFrame, catalog: Catalog) -> pd.DataFrame:
    """Examples from a data set's own log of past decisions.

    Args:
        log: `Domain.log()`: one row a decision.
        features: The customers' features at the time of each, with the log's `row_id`.
        catalog: Says which channel a placement is on.

    Raises:
        DataError: A column is missing, rows have no features, or a name is not in the catalogue.
    """
    missing = [name for name in _LOG_COLUMNS if name not in log.columns]
    if missing:
        raise DataError(f"the log lacks the columns {', '.join(missing)}; a domain's log() must have them all")
    joined = features.set_index("row_id").drop(columns=[key for key in _JOIN_KEYS[1:] if key in features.columns])
    if joined.index.has_duplicates or not log["row_id"].isin(joined.index).all():
        raise DataError(
            f"the point-in-time join gave {joined.index.nunique()} of {len(log)} rows; carry a unique row_id in it,"
            " because rows that repeat customer and time are dropped otherwise"
        )
    unknown = sorted(set(log["placement"]) - set(catalog.placements))
    if unknown:
        raise DataError(f"the log names the placements {', '.join(unknown)}, which the catalogue does not have")
    joined = joined.loc[log["row_id"]].reset_index(drop=True).add_prefix(CUSTOMER)
    known = log.reset_index(drop=True)
    plain = pd.DataFrame(
        {
            "row_id": known["row_id"],
            "source": "log",
            "customer_id": known["customer_id"],
            "decided_at": known["decided_at"],
            "placement": known["placement"],
            "channel": known["placement"].map({name: p.channel for name, p in catalog.placements.items()}),
            "slot": 1,
            "action_id": known["action_id"],
            "probability": known["probability"].astype(float),
            "candidates": known["candidates"].map(tuple),
            "context_weights": known["candidates"].map(lambda ids: (1.0,) * len(ids)),
            "values": _values(known, joined, catalog),
            "contacts": known["contacts"].map(tuple),
            "met": True,
            "reward": known["reward"].astype(float),
            "success": known["success"].astype(int),
            "drawn": known["probability"].notna(),
            "context": known["context"],
        }
    )
    return _with_features_from_context(pd.concat([plain, joined], axis=1))


@paused()
def ledger_examples(
    reader: EarningReader,
    catalog: Catalog,
    *,
    now: datetime,
    untold: Untold | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    only_closed: bool = True,
) -> pd.DataFrame:
    """Examples from our own decisions, one a slot (`ExampleColumns.add`).

    They are those made from `since` (included; 180 days ago when absent) to `until` (excluded; `now`).

    A decision counts when its attribution window has closed at `now`: earlier, late answers would be
    missing and it would look like a failure. What is reported of a reload is the first decision's.
    No example is a decision for which stored features could not be read: it would teach that a
    customer who has features has none. Nor is one whose outcomes were not told (`untold`): silence is
    not rejection. The frame's `attrs[LEFT_OUT]` says how many those are.

    Without `only_closed`, all others are there too, and a column `closed` says which those are.
    """
    untold = untold or Untold()
    since, until = since or now - LEDGER_WINDOW, until or now
    outcomes = earned(reader, catalog, since=since, until=until)
    rows = ExampleColumns(CUSTOMER)
    left_out: Counter[Gap] = Counter()
    closed: list[bool] = []
    for decided in reader.all_decisions(Decided, domain=catalog.content.domain, since=since, until=until):
        placement = catalog.placements.get(decided.placement)
        if placement is None:
            continue
        is_closed = closes_at(decided, placement) <= now
        if only_closed and not is_closed:
            continue
        gap = untold.gap(decided, placement)
        if gap is not None:
            left_out[gap] += 1
        elif decided.reason != FEATURES_UNAVAILABLE:
            added = rows.add(decided, placement, outcomes.pop(decided.decision_id, ()))
            closed += [is_closed] * added
    frame = rows.frame()
    if not only_closed and len(frame):
        frame["closed"] = closed
    frame.attrs[LEFT_OUT] = left_out_lines(left_out)
    return frame


def met_by_customers(examples: pd.DataFrame) -> pd.DataFrame:
    """The examples to learn from, numbered anew: what was never seen teaches nothing of the action."""
    met = examples["met"].to_numpy(dtype=bool)
    return examples if met.all() else examples[met].reset_index(drop=True)


def combined(*frames: pd.DataFrame) -> pd.DataFrame:
    """Examples of several sources in the order of their time; a column that one lacks is missing there.

    Raises:
        DataError: There is no example at all.
    """
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        raise DataError(
            "there is nothing to learn from: no log, and no decision in the ledger whose attribution window has closed"
        )
    frame = pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0]
    if not (frame["decided_at"].is_monotonic_increasing and frame["decided_at"].is_unique):
        frame = frame.sort_values(["decided_at", "row_id"], kind="stable", ignore_index=True)
    return _with_features_from_context(frame)


def _values(log: pd.DataFrame, features: pd.DataFrame, catalog: Catalog) -> list[tuple[float, ...]]:
    """What each row's candidates are worth: the catalogue's number, or its rule for this customer.

    What the catalogue cannot show there, or whose rule errs, is worth nothing.
    """
    known: dict[tuple[str, tuple[str, ...]], tuple[float, ...]] = {}
    found = []
    for row, (placement_id, ids) in enumerate(zip(log["placement"], log["candidates"].map(tuple), strict=True)):
        if (placement_id, ids) in known:
            found.append(known[placement_id, ids])
            continue
        placement = catalog.placements[placement_id]
        proposals = [catalog.proposal(name, placement) if name in catalog.actions else None for name in ids]
        by_rule = any(proposal is not None and proposal.value_rule is not None for proposal in proposals)
        scope = (
            _scope(catalog, log, features, row)
            if by_rule
            else RuleScope(now=log["decided_at"].iloc[row].to_pydatetime())
        )
        values = tuple(_worth(proposal, scope) for proposal in proposals)
        if not by_rule:
            known[placement_id, ids] = values
        found.append(values)
    return found


def _worth(proposal: Proposal | None, scope: RuleScope) -> float:
    try:
        return value_of(proposal, scope) if proposal is not None else 0.0
    except RuleFailure:
        return 0.0


def _scope(catalog: Catalog, log: pd.DataFrame, features: pd.DataFrame, row: int) -> RuleScope:
    """What rules see of one row; what the caller sent supplies the features that it names."""
    stored = {name.removeprefix(CUSTOMER): features[name].iloc[row] for name in features.columns}
    context = log["context"].iloc[row]
    supplied = {name: value for name, value in context.items() if name in stored and value is not None}
    customer = {name: None if value is None or value != value else value for name, value in stored.items()}
    now = log["decided_at"].iloc[row].to_pydatetime()
    return catalog.scope(now=now, customer={**customer, **supplied}, account={}, context=context)


def _with_features_from_context(frame: pd.DataFrame) -> pd.DataFrame:
    """A value sent under a customer feature's name supplies that feature, as it does in the service."""
    names = {name.removeprefix(CUSTOMER) for name in frame.columns if name.startswith(CUSTOMER)}
    sent: dict[str, dict[int, Any]] = {}
    for place, context in enumerate(frame["context"]):
        for name in names.intersection(context):
            if context[name] is not None:
                sent.setdefault(name, {})[place] = context[name]
    for name, values in sent.items():
        supplied = pd.Series(values, dtype=object).reindex(range(len(frame))).set_axis(frame.index)
        frame[CUSTOMER + name] = supplied.where(supplied.notna(), frame[CUSTOMER + name]).infer_objects()
    return frame
