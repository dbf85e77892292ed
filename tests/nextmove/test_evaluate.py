"""`nextmove evaluate --log` on files that other systems wrote."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from nextmove.cli import app, main
from training.logged_rows import ONE_COLUMN

GUIDE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's store takes seconds to create."""
    return tmp_path_factory.mktemp("evaluate") / "state"


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[..., Said]:
    def run(*arguments: str) -> Said:
        monkeypatch.setenv("NEXTMOVE_HOME", str(home))
        code = 0
        try:
            main(lambda: app(["evaluate", *arguments], standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two banners, drawn with 0.8 and 0.2; the rarer one is clicked three times as often."""
    rng = np.random.default_rng(1)
    rare = rng.random(4_000) < 0.2
    clicked = rng.random(4_000) < np.where(rare, 0.3, 0.1)
    path = tmp_path / "clicks.csv"
    pd.DataFrame(
        {"banner": np.where(rare, "new", "old"), "clicked": clicked.astype(int), "p": np.where(rare, 0.2, 0.8)}
    ).to_csv(path, index=False)
    return path


MAPPED = ("--map", "action=banner", "--map", "reward=clicked", "--map", "probability=p")


def test_a_log_is_evaluated_printed_and_kept(evaluate: Callable[..., Said], log: Path, home: Path) -> None:
    said = evaluate("--log", str(log), *MAPPED, "--policy", "always:new", "--policy", "uniform")
    assert said.code == 0, said.err
    for part in ("4,000 decisions", "always:new", "DRos", "at any rate, bernstein", "minus the log's own"):
        assert part in said.out, part
    verdict = next(line for line in said.out.splitlines() if line.startswith("always:new: "))
    assert "earns measurably more than what was logged" in verdict
    assert "trust DR" in verdict
    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("off-policy").experiment_id])
    assert {each.path for each in client.list_artifacts(run.info.run_id, "figures")} == {
        "figures/reward_by_policy.png", "figures/weights.png", "figures/reward_over_time.png",
    }  # fmt: skip
    assert run.info.run_id in said.out


def test_the_document_for_machines_has_every_estimator_that_was_asked_for(
    evaluate: Callable[..., Said], log: Path
) -> None:
    said = evaluate("--log", str(log), *MAPPED, "--policy", "always:new", "--estimators", "all", "--json")
    found = json.loads(said.out)
    of_policy = {
        each["estimator"]: each["estimate"]["value"] for each in found["values"] if each["policy"] == "always:new"
    }
    assert set(of_policy) == {"dm", "ips", "snips", "dr", "sndr", "switch_dr", "dros"}
    assert abs(of_policy["snips"] - 0.3) < 4.0 * np.sqrt(0.21 / 800)
    assert found["rewards"] == [0.0, 1.0]
    assert found["verdicts"][0]["estimator"] == "dr"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--log", "nowhere.csv"), "there is no file nowhere.csv"),
        (("--log", "LOG"), "--map action=COLUMN"),
        (("--log", "LOG", *MAPPED, "--policy", "always:blue"), "the log has no action 'blue'; it has new, old"),
        (("--log", "LOG", *MAPPED, "--policy", "column:best"), "has no column 'best' (--policy column:best)"),
        (("--log", "LOG", *MAPPED, "--reward-range", "0"), "--reward-range is '0', must be LEAST,MOST"),
        (("--log", "LOG", *MAPPED, "--estimators", "magic"), "there is no estimator 'magic'"),
        (("--log", "LOG", "--catalog", "x"), "--log is a log of its own"),
        (("--map", "reward=clicked"), "are of --log FILE"),
        (("--market", "de"), "need --catalog or --policy"),
        (("--catalog", "x", "--policy", "greedy"), "evaluate one change at a time"),
        (("--policy", "greedy", "--policy", "uniform"), "on the ledger evaluate one at a time"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ",
)
def test_what_cannot_be_meant_is_one_clear_line(
    evaluate: Callable[..., Said], log: Path, arguments: tuple[str, ...], named: str
) -> None:
    said = evaluate(*(str(log) if each == "LOG" else each for each in arguments))
    assert said.code == 1
    assert named in said.err
    assert "Traceback" not in said.err


def test_the_guide_names_every_role_and_only_options_that_there_are() -> None:
    named = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", GUIDE, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    assert named == {*ONE_COLUMN, "features"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        option
        for command in (commands["evaluate"], commands["bench"].commands["ope"])
        for each in command.params
        for option in each.opts
    }
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", GUIDE)) <= known


def test_a_log_of_equal_chances_needs_no_column_of_them(evaluate: Callable[..., Said], log: Path) -> None:
    asked = (*MAPPED[:4], "--map", "probability=uniform", "--policy", "uniform", "--estimators", "ips", "--json")
    logged, uniform = json.loads(evaluate("--log", str(log), *asked).out)["values"]
    assert uniform["estimate"]["value"] == pytest.approx(logged["estimate"]["value"])
