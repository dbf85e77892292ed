"""A release that would move units of an experiment that has begun is refused; a check says so before."""

import json
from pathlib import Path

import pytest

from tests.nextmove.desk import Desk, desk_in

RUNNING = """\
experiments:
  - id: hero_copy
    status: running
    traffic: 0.5
    variants: [{id: a}, {id: b, payload: {tone: bold}}]
"""


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    """With an experiment that runs, released."""
    desk = desk_in(tmp_path, capfd, monkeypatch)
    write(desk, RUNNING)
    assert desk.run("catalog", "release").code == 0
    return desk


def write(desk: Desk, text: str, folder: str = "global") -> None:
    (desk.folder / folder / "experiments.yaml").write_text(text)


def test_it_is_refused_with_every_reason_and_its_line_and_nothing_is_served_of_it(desk: Desk) -> None:
    served = desk.run("catalog", "release").out.split()[2].removesuffix(";")
    write(desk, RUNNING.replace("0.5", "0.1").replace("bold", "loud"))
    said = desk.run("catalog", "release")
    assert said.code == 1
    after = "after it began: units would move, or be measured under two treatments; raise `version` to 2"
    assert f"simulated/global/experiments.yaml:4: experiments[hero_copy].traffic: falls from 0.5 to 0.1 {after}" in (
        said.err
    )
    assert "simulated/global/experiments.yaml:5: experiments[hero_copy].variants[b]: what it does changes" in said.err
    assert "the catalogue has 2 mistakes" in said.err  # not again for the market, which inherits them
    write(desk, RUNNING)
    assert desk.run("catalog", "release").out.startswith(f"already released: {served}")


def test_what_a_market_says_is_told_of_the_market(desk: Desk) -> None:
    write(desk, "experiments: [{id: hero_copy, unit: session}]", "markets/ch")
    said = desk.run("catalog", "release")
    assert said.code == 1
    assert (
        "simulated/markets/ch/experiments.yaml:1: market ch: experiments[hero_copy].unit: changes from customer to"
        in said.err
    )
    assert "the catalogue has 1 mistake:" in said.err


def test_a_new_version_and_what_moves_nobody_are_released(desk: Desk) -> None:
    for text in (RUNNING.replace("0.5", "0.9"), RUNNING.replace("0.5", "0.1\n    version: 2")):
        write(desk, text)
        assert json.loads(desk.run("catalog", "release", "--json").out)["changed"] is True


def test_a_check_warns_of_it_once_something_is_served(desk: Desk) -> None:
    assert json.loads(desk.run("catalog", "check", "--json").out)["warnings"] == []
    write(desk, RUNNING.replace("0.5", "0.1"))
    said = desk.run("catalog", "check")
    assert said.code == 0
    assert said.err.startswith(
        "warning: a release is refused: simulated/global/experiments.yaml:4: experiments[hero_copy].traffic: falls"
    )
    [doubt] = json.loads(desk.run("catalog", "check", "--json").out)["warnings"]
    assert "raise `version` to 2" in doubt


def test_a_check_makes_no_ledger(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    desk = desk_in(tmp_path, capfd, monkeypatch)
    assert desk.run("catalog", "check").code == 0
    assert not desk.home.exists()
