"""Learners beside each other: what is compared is fair, and ours learns."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from nextmove.bandit_drift import Shop, drifted, drifting_shop
from nextmove.bandit_linear import LinearThompson
from nextmove.bandit_mushroom import mushroom_problem
from nextmove.bandit_peers import PEERS, peer
from nextmove.bandit_product import TrainedAgain
from nextmove.bandit_protocol import Floats, Problem, Shown, play
from nextmove.bench_bandits import LINEAR, Run, ran_once, run_bandits, summaries
from nextmove.cli import app
from storage.settings import Settings
from training.world import World

CATALOG = Path(__file__).parents[2] / "catalog" / "simulated"


@pytest.fixture(scope="module")
def mushrooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 400 mushrooms, poisonous where the first attribute says so."""
    rng = np.random.default_rng(4)
    attributes = rng.choice(list("abcd"), (400, 22))
    is_poisonous = attributes[:, 0] < "c"
    lines = [
        ",".join(["p" if poisonous else "e", *row]) for poisonous, row in zip(is_poisonous, attributes, strict=True)
    ]
    folder = tmp_path_factory.mktemp("mushroom")
    (folder / "mushroom.data").write_text("\n".join(lines) + "\n")
    return folder


def problem_of(folder: Path, *, rounds: int = 1_500) -> Problem:
    return mushroom_problem(folder / "mushroom.data", rounds=rounds, seed=1)


class States:
    """A learner that states what it is told to."""

    def __init__(self, chances: Floats) -> None:
        self._chances = chances
        self.seen: list[Shown] = []

    def probabilities(self, rounds: slice) -> Floats:
        return self._chances[rounds]

    def learn(self, rounds: slice, shown: Shown) -> None:
        self.seen.append(shown)


def regret(problem: Problem, earned: Floats) -> float:
    return float(100 * (problem.oracle - earned).sum() / (problem.oracle - problem.uniform).sum())


def test_the_best_choice_regrets_nothing_and_uniform_choice_a_hundred(mushrooms: Path) -> None:
    problem = problem_of(mushrooms, rounds=20_000)
    best = (problem.expected == problem.oracle[:, None]).astype(np.float64)
    assert regret(problem, play(problem, States(best), seed=1).earned) == 0.0
    uniform = play(problem, States(np.full((20_000, 2), 0.5)), seed=1)
    assert regret(problem, uniform.earned) == pytest.approx(100.0, abs=4.0)


def test_a_learner_is_told_of_what_it_chose_and_of_nothing_else(mushrooms: Path) -> None:
    problem = problem_of(mushrooms, rounds=30)
    learner = States(np.tile([0.25, 0.75], (30, 1)))
    play(problem, learner, seed=1)
    told = [np.concatenate(column) for column in zip(*learner.seen, strict=True)]
    actions = told[0].astype(int)
    assert set(actions) == {0, 1}
    assert told[1].tolist() == np.where(actions == 0, 0.25, 0.75).tolist()
    assert told[2].tolist() == problem.rewards[np.arange(30), actions].tolist()
    assert len(learner.seen) == 3, "ten rounds are decided before the first of them is learnt from"


def test_a_learner_whose_chances_are_no_distribution_is_caught(mushrooms: Path) -> None:
    problem = problem_of(mushrooms, rounds=20)
    with pytest.raises(ArithmeticError, match=r"sum to 3.000 to 3.000"):
        play(problem, States(np.full((20, 2), 1.5)), seed=1)


def test_choosing_what_is_no_candidate_is_caught(mushrooms: Path) -> None:
    problem = problem_of(mushrooms, rounds=20)
    problem.candidates[:, 1] = False
    with pytest.raises(ArithmeticError, match="distribution over its candidates"):
        play(problem, States(np.full((20, 2), 0.5)), seed=1)


def test_the_linear_bandit_learns_what_to_eat(mushrooms: Path) -> None:
    problem = problem_of(mushrooms, rounds=3_000)
    earned = play(problem, LinearThompson(problem), seed=1).earned
    late = slice(2_000, None)
    lost = (problem.oracle - earned)[late].mean() / (problem.oracle - problem.uniform)[late].mean()
    assert lost < 0.1


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_plays(mushrooms: Path, name: str) -> None:
    problem = problem_of(mushrooms, rounds=300)
    problem.candidates[::7, 1] = False
    earned = play(problem, peer(name, problem, seed=1), seed=1).earned
    assert earned[::7].tolist() == problem.expected[::7, 0].tolist()


def test_a_missing_file_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name the folder with mushroom"):
        mushroom_problem(tmp_path / "mushroom.data", rounds=1, seed=1)


def test_tastes_turn_into_their_opposite_and_showing_nothing_does_not_drift() -> None:
    world = World(1, customers=300)
    visits = list(world.visits(np.random.default_rng(1), 4, start=world.log_start, per_day=1e6)) * 500
    before = world.response_probability(visits, [()] * len(visits))
    after = drifted(world, visits, np.random.default_rng(2))
    assert np.array_equal(after[:, -1], before[:, -1])
    # Of the visits of four customers, who comes first in an action at the beginning and at the end?
    responds = (before[0] > 0.0) & (before[1] > 0.0)
    odds = np.log(after[:, responds] / before[:, responds])[:, :-1]
    start, end = odds[:4], odds[-4:]
    both = np.sign(start[0] - start[1]) * np.sign(end[0] - end[1])
    assert 5 < (both < 0).sum() < 40
    assert 0.5 < np.abs(odds).max() < 5.0


@pytest.fixture(scope="module")
def shop() -> Shop:
    return drifting_shop(CATALOG, rounds=2_000, seed=1)


def test_a_drifting_shop_is_the_same_again_and_gives_numbers_alone(shop: Shop) -> None:
    again = drifting_shop(CATALOG, rounds=2_000, seed=1)
    problem, same = shop.problem, again.problem
    assert np.array_equal(problem.rewards, same.rewards)
    assert np.isfinite(problem.features).all()
    assert (problem.candidates.sum(axis=1) > 1).all()
    assert problem.candidates[:, again.action_ids.index(NO_ACTION)].all()
    assert problem.oracle.mean() > 3 * problem.uniform.mean()


def test_the_model_is_trained_again_on_what_was_shown(shop: Shop) -> None:
    learner = TrainedAgain(shop, seed=1, corrected=True)
    earned = play(shop.problem, learner, seed=1).earned
    assert learner.models >= 10, "once a day"
    assert np.isfinite(earned).all()


def test_runs_of_a_learner_are_summed_up_over_seeds(mushrooms: Path) -> None:
    ran = [ran_once(Run("mushroom", LINEAR, seed, 500, mushrooms)) for seed in (1, 2)]
    [found] = summaries(ran)
    assert found.regret == pytest.approx((ran[0].regret + ran[1].regret) / 2)
    assert found.regrets == (min(r.regret for r in ran), max(r.regret for r in ran))
    assert ran[0].curve[-1] == ran[0].regret


def test_the_command_reports_in_json_and_says_which_learners_there_are(
    mushrooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMOVE_HOME", str(tmp_path))
    asked = ["bench", "bandits", "--data", str(mushrooms), "--rounds", "500", "--seeds", "1", "--workers", "1"]
    done = CliRunner().invoke(app, [*asked, "--learner", LINEAR, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [each["learner"] for each in told["learners"]] == [LINEAR]
    assert told["run_id"]
    with pytest.raises(DataError, match="no learner is called Guess, must be of Nextmove"):
        run_bandits(
            Settings(), "mushroom", rounds=500, seeds=1, data=mushrooms, learners=["Guess"], workers=1, as_json=True
        )
