"""Cycles of learning: what each does, and that one which was killed at any step is finished by the next."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.ledger.gate_attempts import GateAttempt, keep_attempt, kept_attempts
from storage.settings import Settings
from tests.training.tiny_shop import NOW, misled, tiny_catalog, tiny_examples
from training.learning import BOARD, Cycle, learn
from training.promotion import promote, unfinished
from training.tracking import CHALLENGER, CHAMPION, Tracking
from training.training_run import train

CATALOG = tiny_catalog()
HOUR = timedelta(hours=1)
# Reads when and at which step; a child of its own begins a cycle and is killed there.
DOOMED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from storage.settings import Settings
from tests.training.tiny_shop import tiny_catalog, tiny_examples
from training.learning import learn
from training.tracking import Tracking

settings = Settings(home=Path(sys.argv[1]), domain="tiny")
examples = tiny_examples(4000)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

for line in sys.stdin:
    now, at = line.strip().split(" ", 1)
    child = os.fork()
    if child == 0:
        if at == "half logged":
            Tracking.log_data = die
        learn(
            examples, settings, catalog=tiny_catalog(), now=datetime.fromisoformat(now), least=0,
            progress=lambda said: die() if said.startswith(at) else None,
        )
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return tiny_examples(4000)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, examples: pd.DataFrame) -> Settings:
    """A tiny shop that is served a model which was misled."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), domain="tiny")
    trained = train(misled(examples), settings, catalog=CATALOG, now=NOW, seed=1)
    promote(examples, settings, catalog=CATALOG, now=NOW, run_id=trained.run_id, force="to be improved on")
    return settings


def cycle(settings: Settings, examples: pd.DataFrame, *, now: datetime, **changes: object) -> Cycle:
    return learn(examples, settings, catalog=CATALOG, now=now, **{"least": 0, **changes})  # type: ignore[arg-type]


def pointings(settings: Settings) -> list[str]:
    blobs = BlobStore(settings)
    try:
        return [entry.sha256 for entry in blobs.history(bundle_pointer("tiny"))]
    finally:
        blobs.close()


def runs(settings: Settings, board: str) -> list[str]:
    tracking = Tracking(settings)
    return [run.info.status for run in tracking.client.search_runs([tracking.board(board)])]


@pytest.fixture
def killed(settings: Settings) -> Iterator[Callable[[str, datetime], None]]:
    """A cycle in a process of its own that is killed at a step."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", DOOMED, str(settings.home)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None

        def kill(at: str, now: datetime) -> None:
            parent.stdin.write(f"{now.isoformat()} {at}\n")  # type: ignore[union-attr]
            parent.stdin.flush()  # type: ignore[union-attr]
            assert parent.stdout.readline() == f"{-signal.SIGKILL}\n"  # type: ignore[union-attr]

        yield kill
        parent.stdin.close()


def test_too_little_news_is_no_reason_to_learn(settings: Settings, examples: pd.DataFrame) -> None:
    before = len(kept_attempts(settings, "tiny"))
    found = cycle(settings, examples, now=NOW + HOUR, least=500)
    assert (found.outcome, found.said) == ("skipped", "0 new decisions, 500 are worth a cycle")
    assert len(kept_attempts(settings, "tiny")) == before


def test_asked_to_stop_it_ends_before_the_next_step(settings: Settings, examples: pd.DataFrame) -> None:
    stop = threading.Event()
    stop.set()
    before = runs(settings, "models")
    assert cycle(settings, examples, now=NOW + HOUR, stop=stop).outcome == "stopped"
    assert runs(settings, "models") == before


def test_killed_at_every_step_it_is_finished_once(
    settings: Settings, examples: pd.DataFrame, killed: Callable[[str, datetime], None]
) -> None:
    tracking = Tracking(settings)
    misled_version = tracking.version_by_alias("tiny", CHAMPION)
    assert misled_version is not None
    now = NOW + timedelta(days=1)

    killed("training on", now)
    killed("half logged", now)  # a version is registered, without a bundle
    killed("comparing it with", now + HOUR)  # trained, not judged
    assert sorted(runs(settings, "models")) == ["FAILED", "FINISHED", "FINISHED"]
    challenger = tracking.version_by_alias("tiny", CHALLENGER)
    assert challenger is not None
    assert challenger.version != misled_version.version
    assert len(kept_attempts(settings, "tiny")) == 1
    assert len(pointings(settings)) == 1

    killed("the gate is passed", now + 2 * HOUR)  # passed, nothing moved, nothing logged
    [_, attempt] = kept_attempts(settings, "tiny")
    assert (attempt.outcome, attempt.bundle_sha256, attempt.scheduled) == ("passed", challenger.bundle_sha256, True)
    assert 0.0 < attempt.alpha <= 0.05 / 30
    assert unfinished(settings, "tiny") == attempt
    killed("moving the pointer", now + 3 * HOUR)  # the alias moved, what is served did not
    assert len(pointings(settings)) == 1
    assert tracking.version_by_alias("tiny", CHAMPION) == challenger

    found = cycle(settings, examples, now=now + 4 * HOUR)
    assert (found.outcome, found.version) == ("promoted", challenger.version)
    assert pointings(settings)[1:] == [challenger.bundle_sha256]
    assert len(kept_attempts(settings, "tiny")) == 2, "the gate is asked once"
    assert runs(settings, "gate") == ["FINISHED"] * 2
    assert unfinished(settings, "tiny") is None


def test_a_challenger_that_is_no_better_is_refused_and_handed_on(settings: Settings, examples: pd.DataFrame) -> None:
    served, handed = pointings(settings), list[GateAttempt]()

    def keep(attempt: GateAttempt) -> str:
        handed.append(attempt)
        return "kept aside"

    found = cycle(settings, examples, now=NOW + timedelta(days=2), seed=2, when_refused=keep)
    assert found.outcome == "refused"
    assert "it beats the champion" in found.said
    assert found.said.endswith("; kept aside")
    assert [each.version for each in handed] == [found.version]
    assert pointings(settings) == served
    assert runs(settings, BOARD) == ["FINISHED"] * 2


def test_what_the_gate_has_judged_is_not_judged_again(settings: Settings, examples: pd.DataFrame) -> None:
    before = kept_attempts(settings, "tiny")
    found = cycle(settings, examples, now=NOW + timedelta(days=2, seconds=1), least=10**6)
    assert found.outcome == "skipped"
    assert kept_attempts(settings, "tiny") == before


def test_without_error_left_nothing_is_trained(settings: Settings, examples: pd.DataFrame) -> None:
    found = cycle(settings, examples, now=NOW + timedelta(days=2))
    assert (found.outcome, found.said) == ("skipped", "the gate's error of 30 days is spent")


def test_a_model_that_passed_and_is_damaged_keeps_nobody_out(settings: Settings, examples: pd.DataFrame) -> None:
    attempt = kept_attempts(settings, "tiny")[-1]
    blobs = BlobStore(settings)
    damaged = msgspec.structs.replace(attempt, at=NOW + timedelta(days=3), bundle_sha256=blobs.put(b"{}"))
    blobs.close()
    keep_attempt(settings, msgspec.structs.replace(damaged, outcome="passed"))
    said: list[str] = []
    found = cycle(settings, examples, now=NOW + timedelta(days=4), least=500, progress=said.append)
    assert found.outcome == "skipped"
    assert any(line.startswith("a model that passed the gate cannot be served: ") for line in said)


def test_too_few_decisions_are_said_and_not_an_error(tmp_path: Path) -> None:
    found = cycle(Settings(home=tmp_path / "home", domain="tiny"), tiny_examples(150), now=NOW)
    assert found.outcome == "skipped"
    assert "do not split by time" in found.said
