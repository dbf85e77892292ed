"""Off-policy estimates held to a reference implementation's, and their intervals to a truth that is known."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from decisioning.conservative_intervals import Bounds, conservative_value
from decisioning.errors import DataError
from decisioning.evaluation import (
    Bootstrap,
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
    tuned,
)
from decisioning.slate_evaluation import (
    SlateLog,
    cascade_doubly_robust,
    slate_inverse_propensity,
    slate_self_normalised,
)
from nextmove.bench_obd import ObdBench, as_document, obd_errors
from nextmove.console import print_json, print_table, step
from training.estimators import SHOWN

# Relative; the real log's q_hat is stored as float32.
TOLERANCES: Mapping[str, float] = {"synthetic": 1e-9, "obd_random_all": 1e-6, "slate": 1e-9}
ROWS, ACTIONS, DRAWS = 1_000, 5, 400
_INTERVALS = ("IPS", "SNIPS", "DR", "SNDR", "DRos")
_CONSERVATIVE = ("IPS, empirical Bernstein", "IPS, confidence sequence")


class Agreement(NamedTuple):
    """An estimate beside the reference's."""

    log: str
    estimator: str
    ours: float
    reference: float

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.ours / self.reference - 1.0)


class Coverage(NamedTuple):
    """How often 95 % intervals of an estimator held the truth, and how wide they were."""

    estimator: str
    replications: int
    covered: float
    width: float
    is_conservative: bool = False

    @property
    def is_as_stated(self) -> bool:
        """Whether that is within four standard errors of 95 %; of a conservative one, 95 % or more."""
        missed = 0.95 - self.covered
        return missed <= 0.0 if self.is_conservative else abs(missed) <= 4.0 * _error_of_share(self.replications)


def run_ope(folder: Path, obd: Path, *, replications: int, bootstraps: int, seed: int, as_json: bool) -> bool:
    """Compare, simulate and print; whether every estimate is the reference's and every interval holds as it says.

    Without `bootstraps` nothing is done with the Open Bandit Dataset.

    Raises:
        DataError: The vectors, or the data, are not there.
    """
    with step("estimates") as progress:
        agreements = golden_agreements(folder)
        worst = max(agreements, key=lambda each: each.error / TOLERANCES[each.log])
        progress.result = f"{len(agreements)}; furthest {worst.estimator} of {worst.log}, {worst.error:.1e}"
    with step("intervals") as progress:
        coverages = simulated_coverage(replications=replications, seed=seed, progress=progress)
    real: ObdBench | None = None
    if bootstraps:
        with step("Open Bandit Dataset") as progress:
            real = obd_errors(obd, folder, bootstraps=bootstraps, progress=progress)
    held = all(each.error <= TOLERANCES[each.log] for each in agreements) and all(c.is_as_stated for c in coverages)
    if as_json:
        print_json(
            {
                "estimates": [{**msgspec.to_builtins(each._asdict()), "error": each.error} for each in agreements],
                "intervals": [each._asdict() for each in coverages],
                "open_bandit_dataset": real and as_document(real),
                "held": held,
            }
        )
        return held
    print_table(
        "Estimates beside the reference's",
        ["log", "estimator", "ours", "reference", "relative error", "allowed"],
        [(*each, f"{each.error:.1e}", f"{TOLERANCES[each.log]:.0e}") for each in agreements],
    )
    print_table(
        f"95 % intervals over {replications} simulated logs of {ROWS:,} decisions",
        ["estimator", "covered", "width", "as often as it says"],
        [(each.estimator, each.covered, each.width, "yes" if each.is_as_stated else "no") for each in coverages],
    )
    if real is not None:
        print_table(
            f"Relative error for the Thompson policy from the uniform log, over {real.bootstraps} bootstraps; it truly"
            f" earned {real.truth:.4f}, give or take {real.truth_error / real.truth:.0%}",
            ["estimator", "published", "ours, same protocol", "spread", "with our reward model", "spread"],
            [(SHOWN[each.estimator], *each[1:]) for each in real.errors],
        )
    return held


def golden_agreements(folder: Path) -> list[Agreement]:
    """Every estimate of which the reference's is known.

    Raises:
        DataError: The vectors are not there.
    """
    try:
        known: dict[str, dict[str, float]] = json.loads((folder / "expected.json").read_text())
        found = {name: np.load(folder / f"{name}.npz") for name in TOLERANCES}
    except (OSError, ValueError) as error:
        raise DataError(f"the reference's vectors cannot be read: {error}; name their folder by --data") from error
    ours = {"slate": _of_slates(found["slate"])}
    for name in ("synthetic", "obd_random_all"):
        log, target, q_hat = _logged(name, found[name])
        ours[name] = {each: _estimator(each, q_hat)(log, target).value for each in known[name] if each != "TRUE"}
    return [Agreement(name, each, value, known[name][each]) for name in ours for each, value in ours[name].items()]


def simulated_coverage(
    *, replications: int, seed: int, progress: Callable[[str], None] = lambda _said: None
) -> list[Coverage]:
    """How often clustered bootstrap intervals hold the truth of a world whose log is skewed."""
    names = (*_INTERVALS, *_CONSERVATIVE)
    held: dict[str, list[bool]] = {name: [] for name in names}
    widths: dict[str, list[float]] = {name: [] for name in names}
    for number in range(replications):
        rng = np.random.default_rng([seed, number])
        log, target, q_hat, truth = _world(rng)
        terms: dict[str, Terms] = {
            name: tuned(log, target, q_hat)["dros"][1] if name == "DRos" else _estimator(name, q_hat)(log, target)
            for name in _INTERVALS
        }
        drawn = Bootstrap(terms, log.customer, rng=rng, replications=DRAWS)
        for name in _INTERVALS:
            estimate = drawn.estimate(name)
            held[name].append(estimate.low <= truth <= estimate.high)
            widths[name].append(estimate.high - estimate.low)
        for name, (low, high) in _conservative(log, target).items():
            held[name].append(low <= truth <= high)
            widths[name].append(high - low)
        if number % 50 == 49:
            progress(f"{number + 1} of {replications} logs")
    return [
        Coverage(name, replications, float(np.mean(held[name])), float(np.mean(widths[name])), name in _CONSERVATIVE)
        for name in names
    ]


def _conservative(log: Log, target: Floats) -> dict[str, Bounds]:
    found = conservative_value(log, target, least=0.0, most=1.0, rarest=float(_logging().min()))
    return dict(zip(_CONSERVATIVE, found, strict=True))


def _logging() -> Floats:
    return _softmax(np.linspace(1.0, -1.0, ACTIONS)[None, :])


def _error_of_share(replications: int) -> float:
    return float(np.sqrt(0.95 * 0.05 / replications))


def _world(rng: np.random.Generator) -> tuple[Log, Floats, Floats, float]:
    """A log, a target, a reward model learnt elsewhere, and the target's true value over all customers."""
    bias = np.linspace(-2.0, 0.0, ACTIONS)
    x = rng.normal(size=(ROWS, 1))
    chance = 1.0 / (1.0 + np.exp(-(bias + 0.8 * x * np.linspace(-1.0, 1.0, ACTIONS))))
    logging = np.repeat(_logging(), ROWS, axis=0)
    target = _softmax(2.0 * chance)
    action = (logging.cumsum(axis=1) > rng.random((ROWS, 1))).argmax(axis=1)
    rows = np.arange(ROWS)
    log = Log(
        reward=(rng.random(ROWS) < chance[rows, action]).astype(np.float64),
        action=action,
        probability=logging[rows, action],
        customer=rows,
        available=np.ones((ROWS, ACTIONS), dtype=bool),
    )
    return log, target, 0.7 * chance + 0.05, _true_value()


def _true_value() -> float:
    """Of the world's target, by quadrature over its customers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    bias, slope = np.linspace(-2.0, 0.0, ACTIONS), 0.8 * np.linspace(-1.0, 1.0, ACTIONS)
    chance = 1.0 / (1.0 + np.exp(-(bias + nodes[:, None] * slope)))
    values = (_softmax(2.0 * chance) * chance).sum(axis=1)
    return float(values @ weights / weights.sum())


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    chances: Floats = powers / powers.sum(axis=1, keepdims=True)
    return chances


def _estimator(name: str, q_hat: Floats) -> Callable[[Log, Floats], Terms]:
    """By the reference's name, with the bound behind it: `DRos_50.0`."""
    kind, _, bound = name.partition("_")
    estimators: dict[str, Any] = {
        "DM": partial(direct_method, q_hat=q_hat),
        "IPS": inverse_propensity,
        "SNIPS": self_normalised,
        "DR": partial(doubly_robust, q_hat=q_hat),
        "SNDR": partial(self_normalised_doubly_robust, q_hat=q_hat),
        "SwitchDR": partial(switch_doubly_robust, q_hat=q_hat, most=float(bound or 0.0)),
        "DRos": partial(shrunk_doubly_robust, q_hat=q_hat, shrinkage=float(bound or 0.0)),
    }
    found: Callable[[Log, Floats], Terms] = estimators[kind]
    return found


def _logged(name: str, found: Mapping[str, Any]) -> tuple[Log, Floats, Floats]:
    """A log of the reference's, the target and the reward model, `(n, n_actions)` both."""
    if name == "synthetic":
        target, q_hat = found["action_dist"][:, :, 0], found["q_hat"][:, :, 0]
    else:
        target, q_hat = found["action_dist"][:, found["position"]].T, found["q_hat"].astype(np.float64)
    log = Log(
        reward=found["reward"].astype(np.float64),
        action=found["action"],
        probability=found["pscore"],
        customer=np.arange(len(target)),
        available=np.ones(target.shape, dtype=bool),
    )
    return log, target, q_hat


def _of_slates(found: Mapping[str, Any]) -> dict[str, float]:
    own, reward = found["target_item"], found["reward"].astype(np.float64)
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
    return values
