"""What the catalogue's demand on fairness says to a challenger: whether its policy would treat groups alike."""

from collections.abc import Callable

import msgspec
import numpy as np
import pandas as pd

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.fairness import Measured, group_ratios, judge_fairness
from training.customer_groups import groups_of
from training.examples import CUSTOMER
from training.fairness_report import counts_as_exposure
from training.gate import Verdict
from training.graph_scorer import verified_scorer
from training.target_policies import candidate_rows, drawn_decisions, greedy, priorities


def with_fairness(verdict: Verdict, bundle: Bundle, catalog: Catalog, examples: Callable[[], pd.DataFrame]) -> Verdict:
    """The verdict, with what speaks against the model's policy by the catalogue's `fairness.floor`, if it has one."""
    if catalog.content.fairness.floor is None:
        return verdict
    against = unfairness(bundle, catalog, examples())
    return msgspec.structs.replace(verdict, against=(*verdict.against, *against))


def unfairness(bundle: Bundle, catalog: Catalog, examples: pd.DataFrame) -> tuple[str, ...]:
    """Why the model's greedy policy does not treat protected groups alike, on decisions later than it learnt from.

    A protected feature that no decision has is said, too: nobody could tell.
    """
    wanted = catalog.content.fairness
    later = (examples["decided_at"] > pd.Timestamp(bundle.manifest.trained_until)).to_numpy()
    if wanted.floor is None or not examples["drawn"].to_numpy(dtype=bool)[later].any():
        return ()
    decisions = drawn_decisions(examples[later], catalog)
    features = bundle.manifest.features
    rows = candidate_rows(features, decisions, catalog)
    target = greedy(priorities(verified_scorer(bundle), features, rows, decisions, catalog))
    shown_of = counts_as_exposure(catalog, wanted.exposure_of)
    exposed = target[:, [action_id in shown_of for action_id in decisions.actions]].sum(axis=1)
    frame = decisions.examples
    missing = [name for name in wanted.protected if CUSTOMER + name not in frame.columns]
    ratios = group_ratios(
        {name: groups_of(frame[CUSTOMER + name].tolist()) for name in wanted.protected if name not in missing},
        {"exposure": Measured(exposed, np.ones(len(exposed)))},
        pd.factorize(frame["customer_id"])[0].astype(np.int64),
    )
    unknown = tuple(f"whether {name} is treated alike cannot be told: no decision has that feature" for name in missing)
    return (*judge_fairness(ratios, floor=wanted.floor), *unknown)
