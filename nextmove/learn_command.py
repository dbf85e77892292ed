"""`nextmove learn`: train, judge and promote again and again, one learner at a time.

Imports of libraries that take seconds stand inside the command that needs them.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from decisioning.errors import LeaseLost, NextmoveError
from nextmove.console import err, next_command, out
from nextmove.options import AsJson, Data, Dataset, Mapping, now_utc, seconds_of, settings_of
from storage.blobs import BlobStore
from storage.bundles import shadow_pointer
from storage.settings import Settings

if TYPE_CHECKING:
    from storage.ledger.gate_attempts import GateAttempt
    from training.learning import Cycle

Tell = Callable[[datetime, str, "Cycle | None"], None]


def learn(
    every: Annotated[str, typer.Option(help="Time between two cycles: 30m, 1h, 24h.", metavar="TIME")] = "1h",
    once: Annotated[bool, typer.Option("--once", help="One cycle, and end; for schedulers of your own.")] = False,
    max_cycles: Annotated[int | None, typer.Option(min=1, help="End after so many cycles.")] = None,
    least: Annotated[
        int, typer.Option(min=1, help="New decisions with closed windows that are worth a cycle; fewer skip it.")
    ] = 500,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Let a refused challenger score in the shadow until the next one.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of training, folds and bootstrap.")] = 1,
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    as_json: AsJson = False,
) -> None:
    """Train on the ledger, evaluate, gate and promote by itself, every hour; one line a cycle.

    Stops between two steps on Ctrl-C or SIGTERM, and goes on where it was when it is started again. Only one
    learner of a domain runs at a time, on whichever machine. A cycle that fails is tried again at the next.

    Example: nextmove learn --every 1h
    """
    from nextmove import steps
    from storage.leases import held
    from training.learning import learn as learn_cycle

    settings = settings_of(dataset, data, mapping)
    pause = seconds_of(every)
    steps.open_home(settings)
    steps.released(settings)  # a set-up that is not finished is said now, and not at every cycle
    with _stopped_by_signals() as stop, held(settings, f"learn/{settings.domain}", what="learner") as lease:

        def cycle(now: datetime) -> "Cycle":
            lease.check()
            return learn_cycle(
                steps.domain_of(settings), settings, catalog=steps.released(settings).everywhere, now=now,
                least=least, seed=seed, stop=stop,
                when_refused=partial(into_the_shadow, settings) if shadow else None,
                progress=lambda said: err.print(f"  learn: {said}", style="dim"),
            )  # fmt: skip

        run_cycles(
            cycle, most=1 if once else max_cycles, stop=stop, wait=lambda: stop.wait(pause), clock=now_utc,
            tell=_as_json if as_json else _as_line, retry=not once,
        )  # fmt: skip
    next_command("nextmove doctor")


def into_the_shadow(settings: Settings, attempt: "GateAttempt") -> str:
    """Let the challenger that the gate refused score live decisions, and decide none."""
    with closing(BlobStore(settings)) as blobs:
        reason = f"version {attempt.version}, which the gate refused, into the shadow"
        blobs.point(shadow_pointer(attempt.domain), attempt.bundle_sha256, now=attempt.at, reason=reason)
    return "it scores in the shadow"


def run_cycles(
    cycle: Callable[[datetime], "Cycle"],
    *,
    most: int | None,
    stop: threading.Event,
    wait: Callable[[], object],
    clock: Callable[[], datetime],
    tell: Tell,
    retry: bool = True,
) -> None:
    """Cycles until `most` are done or `stop` is set; with `retry`, one that fails is told and tried again.

    Raises:
        LeaseLost: Another learner has taken over.
        Exception: Without `retry`, what the cycle raised.
    """
    done = 0
    while not stop.is_set():
        now = clock()
        try:
            found = cycle(now)
        except LeaseLost:
            raise  # another learner is at it
        except Exception as error:  # a store that is away, in whichever library's words
            if not retry:
                raise
            said = error.message if isinstance(error, NextmoveError) else f"{type(error).__name__}: {error}"
            tell(now, f"failed, tried again at the next cycle: {said.splitlines()[0]}", None)
        else:
            tell(now, f"{found.outcome}: {found.said}", found)
        done += 1
        if most is not None and done >= most:
            return
        wait()


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def asked(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        err.print("stopping before the next step")

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_line(now: datetime, said: str, _cycle: "Cycle | None") -> None:
    out.print(f"{now:%Y-%m-%d %H:%M:%S} UTC {said}")


def _as_json(now: datetime, said: str, cycle: "Cycle | None") -> None:
    """A line of JSON a cycle, since there is no end to them."""
    document = {"at": now, "outcome": "failed", "said": said} if cycle is None else cycle
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()
