"""Every estimator gives what the reference implementation gave, on synthetic, real and slate logs."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decisioning.evaluation import (
    Floats,
    Log,
    Terms,
    direct_method,
    doubly_robust,
    inverse_propensity,
    self_normalised,
)
from decisioning.robust_estimators import (
    self_normalised_doubly_robust,
    shrunk_doubly_robust,
    switch_doubly_robust,
)
from decisioning.slate_evaluation import (
    SlateLog,
    cascade_doubly_robust,
    slate_inverse_propensity,
    slate_self_normalised,
)

DATA = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ope_golden"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there; set NEXTMOVE_DATA")
# q_hat of the real log is stored as float32.
TOLERANCE = {"synthetic": 1e-9, "obd_random_all": 1e-6, "slate": 1e-9}


def expected(name: str) -> dict[str, float]:
    values: dict[str, float] = json.loads((DATA / "expected.json").read_text())[name]
    return values


def logged(name: str) -> tuple[Log, Floats, Floats]:
    """The log, the target and the reward model's estimates, `(n, n_actions)` both."""
    found = np.load(DATA / f"{name}.npz")
    n = len(found["reward"])
    if name == "synthetic":
        target, q_hat = found["action_dist"][:, :, 0], found["q_hat"][:, :, 0]
    else:
        target, q_hat = found["action_dist"][:, found["position"]].T, found["q_hat"].astype(np.float64)
    log = Log(
        reward=found["reward"].astype(np.float64),
        action=found["action"],
        probability=found["pscore"],
        customer=np.arange(n),
        available=np.ones(target.shape, dtype=bool),
    )
    return log, target, q_hat


def estimated(name: str, log: Log, target: Floats, q_hat: Floats) -> Terms:
    kind, _, bound = name.partition("_")
    estimators: dict[str, Any] = {
        "DM": partial(direct_method, q_hat=q_hat),
        "IPS": inverse_propensity,
        "SNIPS": self_normalised,
        "DR": partial(doubly_robust, q_hat=q_hat),
        "SNDR": partial(self_normalised_doubly_robust, q_hat=q_hat),
        "SwitchDR": partial(switch_doubly_robust, q_hat=q_hat, most=float(bound or 0)),
        "DRos": partial(shrunk_doubly_robust, q_hat=q_hat, shrinkage=float(bound or 0)),
    }
    terms: Terms = estimators[kind](log, target)
    return terms


@pytest.mark.parametrize("name", ["synthetic", "obd_random_all"])
def test_estimates_are_those_of_the_reference(name: str) -> None:
    log, target, q_hat = logged(name)
    known = {each: value for each, value in expected(name).items() if each != "TRUE"}
    assert len(known) == 11
    for each, value in known.items():
        assert estimated(each, log, target, q_hat).value == pytest.approx(value, rel=TOLERANCE[name]), each


def test_estimates_of_slates_are_those_of_the_reference() -> None:
    found = np.load(DATA / "slate.npz")
    own = found["target_item"]
    reward = found["reward"].astype(np.float64)
    whole = np.repeat(own.prod(axis=1, keepdims=True), own.shape[1], axis=1)
    before = SlateLog(reward, found["pscore_cascade"], own.cumprod(axis=1))
    logs = {
        "SIPS": SlateLog(reward, found["pscore"], whole),
        "IIPS": SlateLog(reward, found["pscore_item_position"], own),
        "RIPS": before,
    }
    values = {name: slate_inverse_propensity(log).value for name, log in logs.items()}
    values |= {f"SN{name}": slate_self_normalised(log).value for name, log in logs.items()}
    values["CascadeDR"] = cascade_doubly_robust(
        before, action=found["action"], q_hat=found["q_hat"], target_choice=found["target_action_dist"]
    ).value
    assert values == pytest.approx(expected("slate"), rel=TOLERANCE["slate"])
