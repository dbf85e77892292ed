"""How often the promotion gate lets in a challenger that is no better, and how much better one must be."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

from decisioning.evaluation import Estimate, Floats, Terms, doubly_robust, effective_sample_size
from decisioning.studentised_bounds import advantage
from nextmove.console import next_command, print_json, print_table, step
from nextmove.gate_months import Month
from nextmove.gate_world import ACTIONS, CHAMPION_ERRS, Ints, Kind, Visits, champion, improved, models, value_of, visits
from storage.settings import Settings, prepare_home
from training.alpha_spending import BUDGET, Spent, spend
from training.evaluation_report import BEST_CONSTANT, CHAMPION_POLICY, MODEL, UNIFORM, EvaluationReport, PolicyValue
from training.gate import ERROR, judge
from training.tracking import Tracking

BOARD = "benchmarks"
KINDS: tuple[Kind, ...] = ("alike", "rare and large")
HOURS, AN_HOUR = 720, 60  # of a month, and visits in each
VISITS_ONCE = 12_000
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
Say = Callable[[str], None]
BETTER = (4, 3, 2, 1, 0)  # segments in which better challengers err; the champion errs in 5
PERIODS = {"a day": 24, "a week": 168, "a month": HOURS}
EVERY_HOUR, EVERY_DAY = "every hour, spending", "every day, spending"
UNGUARDED = "every hour, each time with the plain error"


class Share(NamedTuple):
    """How often something was let in; `stated` is what must not be exceeded, None where nothing is stated."""

    what: str
    world: str
    asked: int
    let_in: int
    stated: float | None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %. Clopper & Pearson, Biometrika 1934."""
        low = beta.ppf(0.025, self.let_in, self.asked - self.let_in + 1) if self.let_in else 0.0
        high = beta.ppf(0.975, self.let_in + 1, self.asked - self.let_in) if self.let_in < self.asked else 1.0
        return float(low), float(high)

    @property
    def holds(self) -> bool:
        """Whether it is not above what is stated by more than four standard errors."""
        if self.stated is None:
            return True
        error = float(np.sqrt(self.stated * (1.0 - self.stated) / self.asked))
        return self.let_in / self.asked <= self.stated + 4.0 * error


class Power(NamedTuple):
    """Share of challengers of a quality that are let in within a day, a week and a month, by how one asks."""

    better_by: float  # of the champion's value
    asked: str
    shares: tuple[float, ...]


def run_gate(settings: Settings, *, challengers: int, months: int, power_months: int, seed: int, as_json: bool) -> None:
    """Simulate, print and log; exit code 1 where a stated error is exceeded."""
    shares: list[Share] = []
    with step("challengers that are no better, asked once") as progress:
        for kind in KINDS:
            let_in = sum(passes_once(kind, seed, number) for number in range(challengers))
            shares.append(Share("asked once, by hand", kind, challengers, let_in, ERROR))
        progress.result = f"{challengers:,} in each of {len(KINDS)} worlds"
    with step("a new one every hour of a month") as progress:
        for kind in KINDS:
            shares += months_of(kind, months, seed=seed, progress=progress)
    with step("challengers that are better") as progress:
        power = power_of(power_months, seed=seed, progress=progress)
    with step("log to MLflow"):
        _log(settings, shares, power, seed=seed)
    if as_json:
        print_json(
            {
                "seed": seed,
                "false_promotions": [
                    {**each._asdict(), "interval": each.interval, "holds": each.holds} for each in shares
                ],
                "power": [each._asdict() for each in power],
            }
        )
    else:
        _print(shares, power)
    next_command("nextmove promote --help")
    if not all(each.holds for each in shares):
        sys.exit(1)


def passes_once(kind: Kind, seed: int, number: int) -> bool:
    """Whether the gate lets in one that is no better, on a log of its own, through what a promotion calls."""
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    served = champion(kind, rng)
    [challenger] = models(kind, rng, 1, errs=CHAMPION_ERRS)
    logged = visits(kind, rng, VISITS_ONCE, served)
    return judge(report_on(logged, challenger, served)).passes


def report_on(logged: Visits, challenger: Ints, served: Ints) -> EvaluationReport:
    """What an evaluation of these models on these visits would say, as far as the gate asks."""
    log = logged.log()
    targets = {
        MODEL: np.eye(ACTIONS)[challenger[logged.segment]],
        CHAMPION_POLICY: np.eye(ACTIONS)[served[logged.segment]],
        BEST_CONSTANT: np.eye(ACTIONS)[np.zeros(len(log.reward), dtype=np.int64)],
        UNIFORM: np.full((len(log.reward), ACTIONS), 1.0 / ACTIONS),
    }
    terms: dict[str, Terms] = {name: doubly_robust(log, target, logged.q_hat) for name, target in targets.items()}
    effective = effective_sample_size(terms[MODEL].weights)
    return EvaluationReport(
        domain="bench", version="2", run_id="", bundle_sha256="", champion_version="1", champion_sha256="",
        since=_EPOCH, n_decisions=len(log.reward), n_customers=0, best_constant={"": "0"}, logged={},
        values=(PolicyValue(MODEL, "reward", "dr", Estimate(0.0, 0.0, 0.0, len(log.reward), effective)),),
        differences=(), warnings=(),
        advantages={
            name: advantage(terms[MODEL], each, log.customer) for name, each in terms.items() if name != MODEL
        },
    )  # fmt: skip


def month_of(kind: Kind, rng: np.random.Generator, served: Ints) -> Month:
    """The visits of a month throughout which one champion is served."""
    hour = np.repeat(np.arange(HOURS), AN_HOUR)
    return Month(visits(kind, rng, HOURS * AN_HOUR, served), hour, HOURS, served)


def months_of(kind: Kind, months: int, *, seed: int, progress: Say) -> list[Share]:
    """In how many months at least one challenger that is no better is let in, by how the gate is asked.

    Each hour's is another one: the more they differ, the likelier one of them is lucky.
    """
    errors = {**spending_errors(), UNGUARDED: np.full(HOURS, ERROR)}
    let_in = dict.fromkeys(errors, 0)
    for number in range(months):
        rng = np.random.default_rng([seed, 1, KINDS.index(kind), number])
        found = month_of(kind, rng, champion(kind, rng)).evidence(models(kind, rng, HOURS, errs=CHAMPION_ERRS))
        for asked, each in errors.items():
            let_in[asked] += bool(found.lets_in(each).any())
        if number % 100 == 99:
            progress(f"{kind}: {number + 1} of {months} months")
    return [
        Share(f"{asked}, for a month", kind, months, count, None if asked == UNGUARDED else BUDGET)
        for asked, count in let_in.items()
    ]


def power_of(months: int, *, seed: int, progress: Say) -> list[Power]:
    """How often challengers of a quality are let in within a day, a week, a month, from where nothing was logged."""
    errors = spending_errors()
    asked = ("by hand, once at the end", *errors)
    let_in = {(errs, how): np.zeros(len(PERIODS)) for errs in BETTER for how in asked}
    for number in range(months):
        rng = np.random.default_rng([seed, 2, number])
        served = champion("alike", rng)
        month = month_of("alike", rng, served)
        for errs in BETTER:
            found = month.evidence(improved(served, rng, HOURS, errs=errs))
            ends = np.array(list(PERIODS.values())) - 1
            let_in[errs, asked[0]] += found.lets_in(np.full(HOURS, ERROR))[ends]
            for how, each in errors.items():
                let_in[errs, how] += found.lets_in(each).cumsum()[ends] > 0
        if number % 50 == 49:
            progress(f"{number + 1} of {months} months")
    base = value_of(CHAMPION_ERRS)
    return [
        Power(value_of(errs) / base - 1.0, how, tuple((count / months).tolist()))
        for (errs, how), count in let_in.items()
    ]


def spending_errors() -> dict[str, Floats]:
    """What an hourly and a daily rhythm may spend at each hour of a month, 0 where they do not ask."""
    rhythms = {}
    for asked, every in ((EVERY_HOUR, 1), (EVERY_DAY, 24)):
        errors, spent = np.zeros(HOURS), list[Spent]()
        for hour in range(every - 1, HOURS, every):
            now = _EPOCH + timedelta(hours=hour)
            errors[hour] = spend(spent, now=now)
            spent.append(Spent(now, float(errors[hour])))
        rhythms[asked] = errors
    return rhythms


def _print(shares: list[Share], power: list[Power]) -> None:
    print_table(
        "Challengers that are exactly as good as the champion",
        ("the gate is asked", "world", "of", "let one in", "share [95 %]", "stated", "holds"),
        [
            (
                each.what, each.world, f"{each.asked:,}", f"{each.let_in:,}",
                f"{each.let_in / each.asked:.1%} [{each.interval[0]:.1%}, {each.interval[1]:.1%}]",
                "none" if each.stated is None else f"at most {each.stated:.0%}",
                "" if each.stated is None else "yes" if each.holds else "no",
            )
            for each in shares
        ],
    )  # fmt: skip
    print_table(
        f"Challengers that are better, let in within ({AN_HOUR} decisions an hour, 20 % of which pay)",
        ("better by", "the gate is asked", *PERIODS),
        [(f"{each.better_by:+.1%}", each.asked, *(f"{share:.0%}" for share in each.shares)) for each in power],
    )


def _log(settings: Settings, shares: list[Share], power: list[Power], *, seed: int) -> None:
    prepare_home(settings)
    tracking = Tracking(settings)
    with tracking.run(f"gate seed {seed}", board=BOARD) as run_id:
        tracking.log(
            run_id,
            parameters={"seed": seed, "asked": {each.what: each.asked for each in shares}},
            metrics={f"{each.what.replace(',', '')}/{each.world}": each.let_in / each.asked for each in shares},
        )
        tracking.log_table(run_id, "false_promotions", _table(shares))
        tracking.log_table(run_id, "power", _table(power))


def _table(rows: list[Share] | list[Power]) -> Any:
    import pandas as pd

    return pd.DataFrame([each._asdict() for each in rows])
