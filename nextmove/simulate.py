"""`nextmove simulate`: set up the loop, run it, print and log what it earned."""

import asyncio
from contextlib import closing
from datetime import datetime
from typing import Any

import numpy as np

from decisioning.errors import SetupError
from nextmove import steps
from nextmove.console import next_command, out, print_json, print_table, step
from nextmove.loop import POLICIES, Loop, Simulation
from nextmove.sandbox import Sandbox
from serving.adapters.onnx_scorer import OnnxScorer
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains.simulated import Simulated
from training.example_sources import logged_examples
from training.examples import combined, ledger_examples
from training.response_delays import response_delays
from training.tracking import Tracking
from training.training_run import train

BOARD = "simulation"
TEST_SHARE = 0.02  # no gate follows, so the newest decisions are learnt from
SMOOTHING = 1_000  # rounds over which the figure averages


def run(
    settings: Settings, *, rounds: int, seed: int, retrain_every: int, last: int, posterior: bool, as_json: bool
) -> None:
    """Simulate, print the comparison, and log it to MLflow.

    Raises:
        SetupError: No simulated model is promoted yet, or people are kept under pseudonyms.
    """
    if settings.pseudonyms.are_used:
        raise SetupError(
            "pseudonym_secret is set, but the simulated world has no people to protect; unset it for simulations",
            where="pseudonym_secret",
        )
    steps.open_home(settings)
    domain = steps.domain_of(settings)
    if not isinstance(domain, Simulated):
        raise SetupError(f"the domain is '{settings.domain}', only 'simulated' has a world whose truth is known")
    sandbox = Sandbox(settings, settings.home / "simulations" / f"seed-{seed}")
    try:
        with step("consents and the data set's own log") as progress:
            sandbox.hot_state.set_consents(domain.consents())
            logged = logged_examples(domain, settings, sandbox.catalog, progress=progress)

        def retrain(now: datetime) -> OnnxScorer:
            with closing(LedgerReader(sandbox.settings)) as reader:
                examples = combined(logged, ledger_examples(reader, sandbox.catalog, now=now))
                delays = response_delays(reader, sandbox.catalog, now=now)
            trained = train(
                examples,
                settings,
                catalog=sandbox.catalog,
                now=now,
                seed=seed,
                test_share=TEST_SHARE,
                register=False,
                delays=delays,
            )
            return OnnxScorer(trained.bundle)

        with step("simulate") as progress:
            loop = Loop(sandbox, domain.world, seed=seed, posterior=posterior)
            result = asyncio.run(loop.play(rounds, retrain_every=retrain_every, retrain=retrain, progress=progress))
            progress.result = f"{rounds:,} decisions, {result.outcomes:,} outcomes, {result.duplicates:,} came twice"
    finally:
        sandbox.close()
    last = min(last, rounds)
    with step("log to MLflow"):
        run_id = _log(settings, result, seed=seed, rounds=rounds, last=last)
    summary = summarise(result, last=last)
    if as_json:
        print_json({"seed": seed, "rounds": rounds, "run_id": run_id, **summary})
        return
    rows = [
        (name if name != "best constant" else f"best constant ({result.best_constant})", *summary["policies"][name])
        for name in POLICIES
    ]
    print_table(
        f"Mean expected reward of a visit, euros; seed {seed}",
        ("policy", f"last {last:,}", "all rounds", "of the oracle's excess over uniform, last"),
        rows,
    )
    out.print("models: " + ", ".join(f"{version} from round {at:,}" for at, version in result.models))
    next_command(f"mlflow ui --backend-store-uri {settings.mlflow_uri}   (board '{BOARD}')")


def summarise(result: Simulation, *, last: int) -> dict[str, Any]:
    """Means per policy (over the last rounds, over all), and the share of the possible gain."""
    uniform, oracle = result.mean("uniform", last=last), result.mean("oracle", last=last)
    policies = {
        name: (
            result.mean(name, last=last),
            float(result.rewards[name].mean()),
            (result.mean(name, last=last) - uniform) / (oracle - uniform),
        )
        for name in POLICIES
    }
    return {"last": last, "policies": policies, "best_constant": result.best_constant, "realised": result.realised}


def _log(settings: Settings, result: Simulation, *, seed: int, rounds: int, last: int) -> str:
    tracking = Tracking(settings)
    with tracking.run(f"simulate seed {seed}", board=BOARD, tags={"domain": settings.domain}) as run_id:
        tracking.log(
            run_id,
            parameters={"seed": seed, "rounds": rounds, "last": last, "best_constant": result.best_constant},
            metrics={f"{_metric(name)}_last": result.mean(name, last=last) for name in POLICIES},
        )
        for at in range(SMOOTHING, rounds + 1, SMOOTHING):
            window = slice(at - SMOOTHING, at)
            tracking.log(
                run_id,
                metrics={_metric(name): float(result.rewards[name][window].mean()) for name in POLICIES},
                step=at,
            )
        tracking.log_figure(run_id, "figures/reward.png", _figure(result))
    return run_id


def _metric(policy: str) -> str:
    return f"reward_{policy.replace(' ', '_')}"


def _figure(result: Simulation) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, style in zip(POLICIES, ("-", ":", "--", "-."), strict=True):
        rewards = result.rewards[name]
        width = min(SMOOTHING, len(rewards))
        smooth = np.convolve(rewards, np.full(width, 1 / width), mode="valid")
        label = name if name != "best constant" else f"best constant ({result.best_constant})"
        axes.plot(np.arange(width, len(rewards) + 1), smooth, style, label=label)
    for at, _ in result.models[1:]:
        axes.axvline(at, color="0.8", linewidth=1, zorder=0)
    axes.set_xlabel(f"visits (mean of the last {SMOOTHING:,}; grey: the model was trained again)")
    axes.set_ylabel("expected reward of a visit, euros")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=2)
    return figure
