"""The model card: what a model is, what it learnt from, how good it is, what it is not for.

Mitchell et al., *Model Cards for Model Reporting*, FAT* 2019.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from decisioning.bundle import Manifest
from training.examples import LEDGER_WINDOW, LEFT_OUT
from training.linear_model import LinearModel
from training.model_input import CONTEXT_SHARE, MINIMUM_COUNT, MOST_CONTEXT_FEATURES
from training.propensity import PropensityModel
from training.time_split import SHARES


def model_card(
    manifest: Manifest,
    model: PropensityModel | LinearModel,
    examples: pd.DataFrame,
    metrics: Mapping[str, float],
    *,
    bundle_sha256: str,
    uplift: str,
) -> str:
    """Markdown. Holds counts and rates alone, nothing about a person; `uplift` says what was learnt of it."""
    sources = Counter(examples["source"])
    kinds = Counter(feature.source for feature in model.features)
    slices = "\n".join(
        f"| {name} | {len(part)} | {_time(part['decided_at'].iloc[0])} | {_time(part['decided_at'].iloc[-1])} |"
        f" {part['success'].mean():.4f} |"
        for name, part in ((name, examples.iloc[getattr(model.split, name)]) for name in SHARES)
    )
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value:.5f} |" for name, value in metrics.items())
    verdict = (
        "It predicts better than the base rate."
        if metrics["log_loss"] < metrics["base_rate_log_loss"]
        else "**It does not predict better than the base rate.**"
    )
    ensemble = (
        f" An ensemble of {manifest.n_members} such models, each learnt from other draws of the customers, stands\n"
        "beside it in the graph; what is sent may explore by it."
        if manifest.n_members
        else ""
    )
    left_out = "".join(f"; {line}" for line in examples.attrs.get(LEFT_OUT, ()))
    return f"""# {manifest.name}, version {manifest.version}

{model.description} with Platt calibration in one ONNX graph: how likely a
customer is to respond to an action, here and now. Built {_time(manifest.created_at)} from commit
`{manifest.git_commit}`; bundle `{bundle_sha256}`.{ensemble}

## Intended use
Ranking the actions of the domain `{manifest.domain}` for one customer: priority = propensity x context
weight x value x lever, after rules, consent and contact policies. The policy around it explores, so
that it can be evaluated and replaced.

## Not for
Decisions with legal or similarly significant effect on a person; other domains; causal claims. A
propensity says who responds, not who responds *because* of the action.

## Data
{len(examples)} shown actions of {examples["customer_id"].nunique()} customers
({", ".join(f"{count} from the {name}" for name, count in sorted(sources.items()))}); SHA-256 of the model's
input `{manifest.data_sha256}`. {len(model.features)} features:
{", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))}. A success is a decision that earned
more than 0 within its placement's attribution window; what was never shown is no row. Of the ledger, the
{LEDGER_WINDOW.days} days before training are read{left_out}. Of the names that callers sent, those are features that at
least {CONTEXT_SHARE:.0%} of the rows of `train` have, {MOST_CONTEXT_FEATURES} at most.

## Split, by time
| slice | rows | from | to | success rate |
|---|---|---|---|---|
{slices}

It learns from `train`, trees stop by `valid` before they learn from that, too; it is calibrated on
`calibration` and judged on `test`, which is later than all. Customers may recur.

## On the test slice
| metric | value |
|---|---|
{figures}

{verdict} Calibration error: mean gap between propensity and success rate over ten bins of equal mass.
The table by action is `by_action.csv`, figures are under `figures/`, the value of acting on the model
under `evaluation/`.

## Uplift
By how much showing an action changes the chance of a success: {uplift}.

## Limits
It knows what was logged. Actions that were rarely shown are guessed from their attributes, and levels
seen fewer than {MINIMUM_COUNT} times in `train` count as one. Contacts older than seven days are forgotten. What
changes after {_time(manifest.trained_until)} is not in it: train again and let the gate judge.
"""


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
