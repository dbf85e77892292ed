"""`nextmove experiment`: how long, how it stands, what to do; and what `--apply` writes."""

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from decisioning.record import Assignment
from nextmove import steps
from nextmove.options import settings_of
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from tests.nextmove.desk import Desk, desk_in
from tests.storage.kept import decision, outcome

DAY = timedelta(days=1)
UNITS = 600
FILE = """\
metrics: [{{id: clicks, of: click}}]
experiments:
  - id: other
    status: draft
    variants: [{{id: a}}, {{id: b}}]
  - id: hero   # Anna's
    status: running   # since spring
    placements: [hero]
    metric: clicks
    minimum_effect: 0.3
    starts: '{starts}'
    length: P14D
    variants: [{{id: a}}, {{id: b, payload: {{tone: bold}}}}]
  - {{id: next, placements: [hero], metric: clicks, minimum_effect: 0.3, variants: [{{id: a}}, {{id: b}}]}}
"""


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """600 people met the hero in the last 8 days; b's texts are clicked more often."""
    made = desk_in(tmp_path, capfd, monkeypatch)
    starts = datetime.now(UTC) - 9 * DAY
    (made.folder / "global" / "experiments.yaml").write_text(FILE.format(starts=starts.isoformat()))
    assert made.run("catalog", "release").code == 0
    rng = np.random.default_rng(1)
    decisions, told = [], []
    for number in range(UNITS):
        variant, at = "ab"[number % 2], starts + timedelta(days=number * 8 / UNITS)
        named = {"decision_id": f"d-{number}", "placement": "hero", "decided_at": at, "customer_id": f"c-{number}"}
        given = (Assignment("hero", variant, 0.5, unit=f"c-{number}"),)
        decisions.append(decision(**named, assignments=given, features={}))
        happened = ["impression", *(["click"] if rng.random() < (0.1, 0.4)[number % 2] else [])]
        told += [
            outcome(f"{what}-{number}", decision_id=f"d-{number}", type=what, occurred_at=at, received_at=at)
            for what in happened
        ]

    async def keep() -> None:
        with closing(Ledger(settings_of(None))) as ledger:
            await asyncio.gather(*(ledger.append_decision(each, digest="a") for each in decisions))
            await ledger.append_outcomes([(each, "a") for each in told])

    asyncio.run(keep())
    return made


def audited() -> list[tuple[str, str]]:
    with closing(LedgerReader(settings_of(None))) as reader:
        return [(entry.subject, entry.reason) for entry in reader.audits(what=("experiment.decide",))]


def status() -> str:
    content = steps.released(settings_of(None)).blueprint.content
    return next(each.status for each in content.experiments if each.id == "hero")


def test_a_report_says_what_to_do_and_why(desk: Desk) -> None:
    said = desk.run("experiment", "report", "hero", "--audience", "adult")
    assert (said.code, "choose b: clicks is better than with a" in said.out) == (0, True)
    found = json.loads(desk.run("experiment", "report", "hero", "--json").out)
    assert found["verdict"]["word"] == "win"
    assert found["mismatch"]["counts"] == {"a": 300, "b": 300}
    [reading] = found["primary"]
    assert reading["low"] < 0.3 < reading["high"]
    assert len(found["days"]) >= 5


def test_deciding_is_audited_and_changes_nothing(desk: Desk) -> None:
    said = desk.run("experiment", "decide", "hero")
    assert (said.code, said.out.startswith("win: choose b")) == (0, True)
    assert "--apply" in said.err
    [(subject, reason)] = audited()
    assert (subject, reason) == ("hero/1", said.out.strip())
    assert status() == "running"


def test_applying_stops_it_and_leaves_the_rest_of_the_file_alone(desk: Desk) -> None:
    path = desk.folder / "global" / "experiments.yaml"
    before = path.read_text()
    found = json.loads(desk.run("experiment", "decide", "hero", "--apply", "--json").out)
    assert (found["word"], found["stopped"], status()) == ("win", True, "stopped")
    assert path.read_text() == before.replace("status: running ", "status: stopped ")
    assert audited()[0][1].endswith("; stopped")
    assert json.loads(desk.run("experiment", "decide", "hero", "--apply", "--json").out)["stopped"] is False


def test_applying_would_release_what_is_not_released_and_so_refuses(desk: Desk) -> None:
    path = desk.folder / "global" / "experiments.yaml"
    path.write_text(path.read_text().replace("P14D", "P21D"))
    said = desk.run("experiment", "decide", "hero", "--apply")
    assert (said.code, "release it first" in said.err) == (1, True)
    assert (status(), audited()) == ("running", [])


def test_a_release_that_fails_leaves_the_file_as_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.folder / "global" / "experiments.yaml"
    before = path.read_text()

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(steps, "release_catalog", fails)
    with pytest.raises(OSError, match="disk full"):
        desk.run("experiment", "decide", "hero", "--apply")
    assert path.read_text() == before


def test_power_says_how_long_it_takes(desk: Desk) -> None:
    said = desk.run("experiment", "power", "next")
    assert (said.code, "whenever you like" in said.out) == (0, True)
    found = json.loads(desk.run("experiment", "power", "next", "--json").out)
    assert found["units_met"] == UNITS
    assert 0.2 < found["baseline"] < 0.3
    assert 1 <= found["fixed"]["days"] < found["anytime"]["days"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("report", "nobody"), "must be one of other, hero, next"),
        (("report", "other"), "has no metric"),
        (("report", "hero", "--audience", "x"), "there is no audience 'x'"),
        (("report", "hero", "--market", "x"), "there is no market 'x'"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(desk: Desk, asked: tuple[str, ...], said: str) -> None:
    found = desk.run("experiment", *asked)
    assert (found.code, said in found.err) == (1, True)
