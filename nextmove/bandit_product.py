"""What the product does, as a learner: a model trained again on its own log, and exploration on its scores.

A lean loop: no HTTP, ledger, hot state or rules. Features, model, calibration, priorities and
policies are the product's own functions, the policy and scale of each placement those of the
catalogue. It starts from the model that has learnt nothing.
"""

import numpy as np
from numpy.typing import NDArray

from decisioning.arbitration import scaled
from decisioning.errors import DataError
from decisioning.exploration import Estimates, with_floor
from decisioning.scores import Scores
from nextmove.bandit_drift import Shop
from nextmove.bandit_protocol import Floats, Shown
from training.first_model import RESPONSE
from training.model_input import encode_pairs
from training.propensity import PropensityModel, fit_propensity

FIRST, GROWTH, MOST = (
    1_000,
    1.5,
    5_000,
)  # rounds until the first training; then once the log has grown so, or by so many
# No gate follows, so the newest decisions are learnt from: as few as the split takes are kept for a test.
TEST_SHARE, TEST_ROWS = 0.02, 60


class TrainedAgain:
    """LightGBM scores, trained again and again, with the catalogue's own exploration."""

    def __init__(self, shop: Shop, *, seed: int) -> None:
        self._shop = shop
        self._seed = seed
        self._model: PropensityModel | None = None
        self._log: list[Shown] = []
        self._train_at = FIRST
        self.models = 0  # trained so far
        placements = shop.catalog.placements
        self._placements = [placements[name] for name in shop.visits["placement"]]
        self._lever = np.array([shop.catalog.actions[name].lever for name in shop.action_ids])

    def probabilities(self, rounds: slice) -> Floats:
        """See `Learner`."""
        candidates = self._shop.problem.candidates[rounds]
        propensities = np.zeros(candidates.shape)
        propensities[candidates] = self._scores(rounds, *np.nonzero(candidates)).corrected
        priorities = propensities * self._shop.worth[rounds] * self._lever
        chances = np.zeros(candidates.shape)
        for place, allowed in enumerate(candidates):
            placement = self._placements[rounds.start + place]
            values = scaled(priorities[place, allowed], placement.priority_scale)
            policy = placement.exploration
            chances[place, allowed] = with_floor(
                policy.probabilities(Estimates.known(values)), policy.minimum_probability
            )
        return chances

    def learn(self, rounds: slice, shown: Shown) -> None:
        """See `Learner`."""
        self._log.append(shown)
        if rounds.stop >= self._train_at:
            self._train_at = min(int(GROWTH * rounds.stop), rounds.stop + MOST)
            self._train()

    def _scores(self, rounds: slice, row: NDArray[np.int64], action: NDArray[np.int64]) -> Scores:
        """Of pairs of a round, counted from the first of these, and an action."""
        if self._model is None:
            return Scores(np.full(len(row), RESPONSE))
        shop = self._shop
        pairs = encode_pairs(self._model.features, shop.visits.iloc[rounds], shop.catalog, row, shop.action_ids, action)
        return Scores(self._model.propensities(pairs))

    def _train(self) -> None:
        shop, log = self._shop, self._log
        actions = np.concatenate([tick.actions for tick in log])
        rewards = np.concatenate([tick.rewards for tick in log])
        examples = shop.visits.iloc[: len(actions)].assign(
            action_id=np.array(shop.action_ids, dtype=object)[actions], success=(rewards > 0.0).astype(np.int64)
        )
        share = max(TEST_SHARE, TEST_ROWS / len(examples))
        try:
            self._model = fit_propensity(examples, shop.catalog, seed=self._seed, test_share=share)[0]
        except DataError:  # too few successes yet
            return
        self.models += 1
