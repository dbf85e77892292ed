"""Logs of anybody's bandit: what is read of them, and what is refused with its row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decisioning.errors import DataError
from tests.builders import NOW
from training.logged_bandit import LoggedBandit, read_logged_bandit, slates
from training.logged_rows import columns_of

GOOD = {"action": "a", "reward": 1.0, "probability": 0.5}


def written(folder: Path, rows: list[dict[str, Any]], name: str = "log.csv") -> Path:
    path, frame = folder / name, pd.DataFrame(rows)
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        frame.to_csv(path, index=False)
    return path


def read(
    folder: Path, rows: list[dict[str, Any]], *maps: str, name: str = "log.csv", policies: Any = ()
) -> LoggedBandit:
    path = written(folder, rows, name)
    return read_logged_bandit(path, columns_of(path, maps, policies=policies), now=NOW)


def refusal(folder: Path, rows: list[dict[str, Any]], *maps: str, name: str = "log.csv", policies: Any = ()) -> str:
    with pytest.raises(DataError) as refused:
        read(folder, rows, *maps, name=name, policies=policies)
    return refused.value.message


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_log_is_the_same_in_every_format(tmp_path: Path, name: str) -> None:
    rows = [
        {"offer": "b", "won": 0.0, "p": 0.25, "who": "c-1", "age": 30, "town": "ulm"},
        {"offer": "a", "won": 2.0, "p": 0.75, "who": "c-2", "age": None, "town": "bonn"},
    ]
    found = read(
        tmp_path, rows, "action=offer", "reward=won", "probability=p", "customer=who", "features=age,to*", name=name
    )
    assert found.actions == ("a", "b")
    assert found.log.reward.tolist() == [0.0, 2.0]
    assert found.log.action.tolist() == [1, 0]
    assert found.log.probability.tolist() == [0.25, 0.75]
    assert len(set(found.log.customer.tolist())) == 2
    assert found.feature_names == ("age", "town")
    assert found.features[0].tolist() == [30.0, 0.0]
    assert np.isnan(found.features[1, 0])
    assert found.categories == {"town": ("ulm", "bonn")}


def test_columns_that_are_called_as_their_role_need_no_map(tmp_path: Path) -> None:
    assert read(tmp_path, [GOOD]).log.reward.tolist() == [1.0]


def test_rows_stand_in_the_order_of_their_time(tmp_path: Path) -> None:
    rows = [{**GOOD, "reward": 2.0, "time": "2025-01-02"}, {**GOOD, "reward": 1.0, "time": "2025-01-01"}]
    assert read(tmp_path, rows).log.reward.tolist() == [1.0, 2.0]


def test_numbers_of_actions_stand_in_their_order(tmp_path: Path) -> None:
    rows = [{**GOOD, "action": number} for number in (10, 9, 2)]
    assert read(tmp_path, rows).actions == ("2", "9", "10")


@pytest.mark.parametrize("listed", ["a,b", '["a", "b"]'])
def test_candidates_say_what_could_have_been_chosen(tmp_path: Path, listed: str) -> None:
    rows = [{**GOOD, "candidates": listed}, {**GOOD, "action": "c", "candidates": "c"}]
    assert read(tmp_path, rows).log.available.tolist() == [[True, True, False], [False, False, True]]


@pytest.mark.parametrize("chances", ["[0.25, 0.75]", '{"a": 0.25, "b": 0.75}'])
def test_the_chances_of_all_candidates_say_that_of_the_chosen_one(tmp_path: Path, chances: str) -> None:
    rows = [{"action": "a", "reward": 1, "candidates": "a,b", "probabilities": chances}]
    assert read(tmp_path, rows).log.probability.tolist() == [0.25]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probability": 0.0}, "row 3, column probability: is '0.0', must be above 0 and at most 1; what could not"),
        ({"probability": -0.5}, "row 3, column probability: is '-0.5', must be above 0"),
        ({"probability": 1.5}, "row 3, column probability: is '1.5', must be above 0 and at most 1"),
        ({"probability": None}, "row 3, column probability: is empty, must be the chance"),
        ({"probability": "often"}, "row 3, column probability: is 'often', must be a number"),
        ({"reward": None}, "row 3, column reward: is empty, must say what was earned; 0 for nothing"),
        ({"reward": "inf"}, "row 3, column reward: is 'inf', must be a number"),
        ({"action": None}, "row 3, column action: is empty"),
        ({"action": "c"}, "row 3, column action: is 'c', which is not among the candidates"),
        ({"candidates": None}, "row 3, column candidates: is empty, must list at least one"),
        ({"customer": None}, "row 3, column customer: is empty"),
        ({"time": "2099-01-01"}, "row 3, column time: is '2099-01-01', must not lie in the future"),
    ],
)
def test_a_row_that_cannot_be_true_is_named(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    good = {**GOOD, "candidates": "a,b", "customer": "c-1", "time": "2025-01-01"}
    found = refusal(tmp_path, [good, {**good, **wrong}, good])
    assert found.startswith("1 of 3 rows of log.csv are wrong\nlog.csv ")
    assert said in found


@pytest.mark.parametrize(
    ("chances", "said"),
    [
        ("[0.5, 0.4]", "sums to 0.9 over the candidates"),
        ("[1.5, -0.5]", "chances must be at least 0 and sum to 1"),
        ("[0.5, 0.25, 0.25]", "has 3 chances for 2 candidates"),
        ("[0.0, 1.0]", "gives the chosen action 'a' no chance"),
        ("[0.4, 0.6]", "gives 'a' 0.4, but probability says 0.5"),
        ('{"b": 1.0}', "is 'a', of which probabilities gives no chance"),
        ("[0.5, x]", "which is no JSON"),
    ],
)
def test_chances_that_are_no_distribution_are_refused(tmp_path: Path, chances: str, said: str) -> None:
    assert said in refusal(tmp_path, [{**GOOD, "candidates": "a,b", "probabilities": chances}])


def test_where_everything_had_the_same_chance_that_can_be_said(tmp_path: Path) -> None:
    rows = [{"action": "a", "reward": 1, "candidates": "a,b"}, {"action": "c", "reward": 0, "candidates": "a,b,c,d"}]
    assert read(tmp_path, rows, "probability=uniform").log.probability.tolist() == [0.5, 0.25]


def test_percentages_are_recognised(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{**GOOD, "probability": percent} for percent in (50, 33.3, 100)])
    assert said.count("a percentage must be divided by 100") == 3


def test_many_mistakes_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    found = refusal(tmp_path, [{**GOOD, "reward": None}] * 8)
    assert "8 of 8 rows" in found
    assert found.endswith("and 3 more")


def test_what_is_not_said_is_asked_for_with_the_columns_that_there_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{"offer": "a", "reward": 1}])
    assert "which column of log.csv is the action: --map action=COLUMN; its columns are offer, reward" in said
    assert "nothing can be evaluated" in refusal(tmp_path, [{"action": "a", "reward": 1}])


def test_columns_that_there_are_not_and_wrong_roles_are_refused(tmp_path: Path) -> None:
    assert "has no column 'won' (--map reward); its columns are" in refusal(tmp_path, [GOOD], "reward=won")
    assert "the feature 'age'" in refusal(tmp_path, [GOOD], "features=age")
    assert "must be ROLE=COLUMN with one of action, reward" in refusal(tmp_path, [GOOD], "prize=reward")
    assert "says reward twice" in refusal(tmp_path, [GOOD], "reward=reward", "reward=action")


def test_a_file_without_rows_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("action,reward,probability\n")
    with pytest.raises(DataError, match="has no rows"):
        columns_of(tmp_path / "log.csv", [])
    with pytest.raises(DataError, match="there is no file"):
        columns_of(tmp_path / "other.csv", [])


def test_a_policys_column_names_an_action_or_chances(tmp_path: Path) -> None:
    rows = [{**GOOD, "candidates": "a,b", "new": "b", "soft": "[0.25, 0.75]"}]
    found = read(tmp_path, rows, policies=("new", "soft"))
    assert found.chosen["new"].tolist() == [[0.0, 1.0]]
    assert found.chosen["soft"].tolist() == [[0.25, 0.75]]


def test_a_policy_that_chooses_what_was_not_there_is_refused_with_its_row(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{**GOOD, "candidates": "a,b", "new": "c"}], policies=("new",))
    assert "log.csv row 2, column new: chooses 'c', which could not have been chosen there" in said


def slate(decision: str, *actions: str) -> list[dict[str, Any]]:
    return [{**GOOD, "decision": decision, "slot": slot, "action": a} for slot, a in enumerate(actions, start=1)]


def test_rows_of_a_slate_belong_together_and_none_stands_in_it_twice(tmp_path: Path) -> None:
    found = read(tmp_path, [*slate("d-1", "a", "b"), *reversed(slate("d-2", "c", "a"))])
    assert found.decision is not None
    assert found.log.customer.tolist() == found.decision.tolist() == [0, 0, 1, 1]
    assert slates(found, found.log.action).tolist() == [[0, 1], [2, 0]]
    assert found.log.available[1].tolist() == [False, True, True]


def test_slates_that_cannot_be_are_refused(tmp_path: Path) -> None:
    whole = slate("d-1", "a", "b")
    assert "decision 'd-2' lacks slot 2" in refusal(tmp_path, [*whole, *slate("d-2", "a")])
    assert "has slot 1 twice" in refusal(tmp_path, [*whole, whole[0]])
    assert "'a' stands in an earlier slot of the same decision already" in refusal(tmp_path, slate("d-1", "a", "a"))
    assert "nothing the slot" in refusal(tmp_path, [{**GOOD, "d": 1}], "decision=d")
