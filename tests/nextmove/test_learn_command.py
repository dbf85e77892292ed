"""The learner's rhythm: cycles without sleeping, with stores that go away and signals that come."""

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from decisioning.errors import LeaseLost, RequestError, StoreError
from nextmove.learn_command import run_cycles
from nextmove.options import seconds_of
from storage.leases import held
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove, refused
from training.learning import Cycle

__all__ = ["nextmove"]

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Rhythm:
    """A clock that is moved on by waiting, and cycles that raise what they are told to."""

    def __init__(self, *failures: Exception | None) -> None:
        self.now = NOON
        self.failures = list(failures)
        self.stop = threading.Event()
        self.told: list[str] = []

    def cycle(self, now: datetime) -> Cycle:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return Cycle(at=now, outcome="skipped", said="nothing new")

    def wait(self) -> None:
        self.now += timedelta(hours=1)

    def tell(self, now: datetime, said: str, cycle: Cycle | None) -> None:
        self.told.append(f"{now:%H:%M} {said}")

    def run(self, *, most: int | None = 3, retry: bool = True) -> list[str]:
        run_cycles(
            self.cycle, most=most, stop=self.stop, wait=self.wait, clock=lambda: self.now, tell=self.tell, retry=retry
        )
        return self.told


def test_each_cycle_is_a_line() -> None:
    assert Rhythm().run() == [f"{hour}:00 skipped: nothing new" for hour in (12, 13, 14)]


@pytest.mark.parametrize("failure", [StoreError("the ledger is away\nlong"), OSError("the ledger is away")])
def test_a_store_that_is_away_is_tried_again_at_the_next_cycle(failure: Exception) -> None:
    first, second, _ = Rhythm(failure).run()
    assert first.startswith("12:00 failed, tried again at the next cycle: ")
    assert first.endswith("the ledger is away")
    assert second == "13:00 skipped: nothing new"


def test_a_single_cycle_fails_as_it_is() -> None:
    with pytest.raises(StoreError):
        Rhythm(StoreError("away")).run(most=1, retry=False)


def test_a_learner_that_lost_its_lease_ends() -> None:
    with pytest.raises(LeaseLost):
        Rhythm(LeaseLost("another's")).run()


def test_asked_to_stop_it_begins_no_other_cycle() -> None:
    rhythm = Rhythm()
    rhythm.wait = rhythm.stop.set  # type: ignore[method-assign]
    assert len(rhythm.run(most=None)) == 1


def test_one_cycle_is_a_line_of_json(shop_settings: Settings, nextmove: Callable[..., Said]) -> None:
    said = nextmove("learn", "--once", "--json", home=shop_settings.home)
    found = json.loads(said.out)
    assert (said.code, found["outcome"], found["new_decisions"]) == (0, "skipped", 0)
    assert said.err.strip().endswith("next: nextmove doctor")


def test_a_second_learner_is_refused(shop_settings: Settings, nextmove: Callable[..., Said]) -> None:
    with held(shop_settings, "learn/simulated", what="learner"):
        said = nextmove("learn", "--once", home=shop_settings.home)
    assert f"another learner is running (process {os.getpid()} on " in refused(said)


def test_learning_before_a_catalogue_is_released_says_what_to_run(nextmove: Callable[..., Said]) -> None:
    assert "nextmove catalog release --dataset simulated" in refused(nextmove("learn"))


def test_a_rhythm_that_is_no_time_is_refused() -> None:
    with pytest.raises(RequestError, match="--every is 'often', must be a time such as 30s, 5m or 2h"):
        seconds_of("often")
