"""How an experiment looks in a terminal."""

from nextmove.console import out, print_table
from training.experiments.power import Need, PowerReport
from training.experiments.reading import Reading
from training.experiments.report import ExperimentReport

DAYS_SHOWN = 14


def print_power(found: PowerReport) -> None:
    """What it takes, by one look and by any number of looks."""
    out.print(
        f"{found.metric} was {found.baseline:.4g} of {found.units_met:,} units that would have taken part in"
        f" {found.days} days; {found.explained:.0%} of its variance is explained by what they did before"
    )
    out.print(f"in {found.days} days, one look at the end finds a change of {found.detectable:.1%} in 4 of 5 cases")
    if found.fixed is None or found.anytime is None:
        out.print("how long it should take cannot be said: the experiment has no minimum_effect")
        return
    print_table(
        f"To find a change of {found.minimum_effect:.1%} in 4 of 5 cases, with 1 false alarm in 20",
        ("looking", "units", "days"),
        [_needed("once, at the end", found.fixed), _needed("whenever you like (at most)", found.anytime)],
    )


def print_report(found: ExperimentReport) -> None:
    """The verdict first, then what it rests on."""
    begun = "not begun" if found.begins is None else f"since {found.begins:%Y-%m-%d}"
    out.print(f"{found.experiment}, version {found.version}, {begun}: {found.verdict.word}")
    out.print(found.verdict.sentence)
    met = ", ".join(f"{count:,} {name}" for name, count in found.mismatch.counts.items())
    out.print(f"units: {met}; split as planned: p = {found.mismatch.p_value:.3g}")
    if found.crossed:
        out.print(f"left out: {found.crossed:,} who met two variants")
    _print_readings("What decides it", found.primary)
    _print_readings("Guardrails", found.guardrails)
    if found.primary:
        print_table(
            "If you had to choose now",
            ("variant", "chance that it is better", "expected loss if chosen", "if the control is kept"),
            [(r.variant, f"{r.chance_better:.1%}", r.expected_loss, r.expected_loss_of_control) for r in found.primary],
        )
    if found.audiences:
        print_table(
            "Audiences; p corrected for their number",
            ("audience", "variant", "difference [95 %]", "relative [95 %]", "p"),
            [
                (a.audience, a.reading.variant, _absolute(a.reading), _relative(a.reading), a.corrected)
                for a in found.audiences
            ],
        )
    if found.factors:
        print_table(
            "Factors, by one look",
            ("level", "effect [95 %]", "p"),
            [(e.of, f"{e.value:+.4g} [{e.low:+.4g}, {e.high:+.4g}]", e.p_value) for e in found.factors],
        )
    if found.days:
        print_table(
            "Day by day, as it was known then",
            ("day", "variant", "units", "difference [95 %, every look]"),
            [
                (f"{day.day}", r.variant, r.units + r.control_units, _absolute(r))
                for day in found.days[-DAYS_SHOWN:]
                for r in day.readings
            ],
        )
    if found.novelty:
        print_table(
            "By days since the first exposure: an effect of novelty fades away",
            ("day", "variant", "units", "difference [95 %]"),
            [
                (f"{age.day}", r.variant, r.units + r.control_units, _absolute(r))
                for age in found.novelty
                for r in age.readings
            ],
        )


def _print_readings(title: str, readings: tuple[Reading, ...]) -> None:
    if not readings:
        return
    print_table(
        f"{title}; 95 % intervals that hold at every look, and of one look beside them",
        (
            "metric",
            "variant",
            "control",
            "value",
            "relative [every look]",
            "difference [every look]",
            "[one look]",
            "p",
        ),
        [
            (
                reading.metric,
                reading.variant,
                reading.control,
                reading.value,
                _relative(reading),
                _absolute(reading),
                f"[{reading.fixed.low:+.4g}, {reading.fixed.high:+.4g}]",
                reading.p_value,
            )
            for reading in readings
        ],
    )


def _absolute(reading: Reading) -> str:
    return f"{reading.difference:+.4g} [{reading.low:+.4g}, {reading.high:+.4g}]"


def _relative(reading: Reading) -> str:
    if reading.relative is None or reading.relative_low is None or reading.relative_high is None:
        return "-"
    return f"{reading.relative:+.1%} [{reading.relative_low:+.1%}, {reading.relative_high:+.1%}]"


def _needed(looking: str, need: Need) -> tuple[str, int, int]:
    return looking, need.units, need.days
