"""What the product does, as a learner: a model trained again on its own log, corrected online, and explored.

A lean loop: no HTTP, ledger, hot state or rules. Features, model, calibration, online posterior,
priorities and policies are the product's own functions, the scale of each placement that of the
catalogue. It starts from the model that has learnt nothing. Outcomes come at once here, so no
delay is allowed for.
"""

from datetime import datetime, timedelta
from math import floor

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from decisioning.arbitration import scaled
from decisioning.content import Placement
from decisioning.delays import BINS, DelayDistribution
from decisioning.errors import DataError
from decisioning.exploration import Estimates, Policy, Thompson, with_floor
from decisioning.posterior import Fitted, Posterior
from decisioning.response_counts import BAND, UNIT, Cell, Counts, Exposure, Tally, add, coarsened
from decisioning.response_shifts import Priors, fitted
from decisioning.scores import Scores
from nextmove.bandit_drift import Shop
from nextmove.bandit_protocol import Floats, Shown
from training.action_priors import USUAL_SPREAD, action_priors
from training.first_model import RESPONSE
from training.model_input import encode_pairs
from training.propensity import PropensityModel, fit_propensity

FIRST = 1_000  # rounds until the first training
EVERY = timedelta(days=1)  # then; `nextmove learn` trains every hour unless it is told otherwise
REFIT = 200  # rounds until the online posterior is fitted again
# No gate follows, so the newest decisions are learnt from: as few as the split takes are kept for a test.
TEST_SHARE, TEST_ROWS = 0.02, 60


class TrainedAgain:
    """LightGBM scores, trained again and again, with the catalogue's own exploration.

    `corrected`: with the online posterior between trainings, and `thompson` on its doubt.
    """

    def __init__(self, shop: Shop, *, seed: int, corrected: bool) -> None:
        self._shop = shop
        self._seed = seed
        self._model: PropensityModel | None = None
        self._log: list[Shown] = []
        self._trained_at: datetime | None = None
        self.models = 0  # trained so far
        self._placements = [shop.catalog.placements[name] for name in shop.visits["placement"]]
        self._at: list[datetime] = [at.to_pydatetime() for at in shop.visits["decided_at"]]
        self._lever = np.array([shop.catalog.actions[name].lever for name in shop.action_ids])
        self._online = _Online(shop) if corrected else None
        self._propensities = np.zeros(shop.problem.candidates.shape[1:])

    def probabilities(self, rounds: slice) -> Floats:
        """See `Learner`."""
        candidates = self._shop.problem.candidates[rounds]
        propensities = np.zeros(candidates.shape)
        propensities[candidates] = self._scores(rounds, *np.nonzero(candidates))
        self._propensities = propensities
        chances = np.zeros(candidates.shape)
        for place, allowed in enumerate(candidates):
            number = rounds.start + place
            placement = self._placements[number]
            scores = Scores(propensities[place, allowed])
            policy: Policy = placement.exploration
            if self._online is not None:
                names = [self._shop.action_ids[action] for action in np.flatnonzero(allowed)]
                scores = self._online.posterior.corrected(scores, names, variants="", channel=placement.channel)
                policy = Thompson()
            worth = self._shop.worth[number, allowed] * self._lever[allowed]
            estimates = _estimates(scores, worth, placement)
            chances[place, allowed] = with_floor(policy.probabilities(estimates), policy.minimum_probability)
        return chances

    def learn(self, rounds: slice, shown: Shown) -> None:
        """See `Learner`."""
        self._log.append(shown)
        if self._online is not None:
            own = self._propensities[np.arange(len(shown.actions)), shown.actions]
            where = [(self._placements[number], self._at[number]) for number in range(rounds.start, rounds.stop)]
            self._online.count(where, shown, own)
        now = self._at[rounds.stop - 1]
        if rounds.stop >= FIRST and (self._trained_at is None or now - self._trained_at >= EVERY):
            self._trained_at = now
            self._train()
        if self._online is not None and rounds.stop // REFIT > rounds.start // REFIT:
            self._online.fit(now)

    def _scores(self, rounds: slice, row: NDArray[np.int64], action: NDArray[np.int64]) -> Floats:
        """Of pairs of a round, counted from the first of these, and an action."""
        if self._model is None:
            return np.full(len(row), RESPONSE)
        shop = self._shop
        pairs = encode_pairs(self._model.features, shop.visits.iloc[rounds], shop.catalog, row, shop.action_ids, action)
        return self._model.propensities(pairs)

    def _train(self) -> None:
        shop, log = self._shop, self._log
        actions = np.concatenate([tick.actions for tick in log])
        rewards = np.concatenate([tick.rewards for tick in log])
        names, success = np.array(shop.action_ids, dtype=object)[actions], (rewards > 0.0).astype(np.int64)
        examples = shop.visits.iloc[: len(actions)].assign(action_id=names, success=success)
        share = max(TEST_SHARE, TEST_ROWS / len(examples))
        try:
            self._model = fit_propensity(examples, shop.catalog, seed=self._seed, test_share=share)[0]
        except DataError:  # too few successes yet
            return
        self.models += 1
        if self._online is not None:
            self._online.start_again(names, success)


class _Online:
    """The online posterior of the model that scores."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._counts: Counts = {}
        self._priors = Priors({}, USUAL_SPREAD, USUAL_SPREAD)
        self._delays = {
            name: DelayDistribution(placement.attribution_window.total_seconds(), (1.0,) * BINS)
            for name, placement in shop.catalog.placements.items()
        }
        self.posterior = Posterior({}, USUAL_SPREAD)

    def count(self, where: list[tuple[Placement, datetime]], shown: Shown, propensities: Floats) -> None:
        for (placement, at), action, reward, propensity in zip(
            where, shown.actions.tolist(), shown.rewards.tolist(), propensities.tolist(), strict=True
        ):
            log_odds = float(logit(np.clip(propensity, 1e-5, 1.0 - 1e-5)))
            minute = int(at.timestamp()) // 60
            name, band = self._shop.action_ids[action], floor(log_odds / BAND)
            cell = Cell("", name, placement.channel, placement.id, minute, 1, band)
            add(self._counts, Exposure(cell, Tally(1, int(reward > 0.0), round(log_odds / UNIT))))

    def fit(self, now: datetime) -> None:
        self._counts = coarsened(self._counts, now=now)
        beliefs = fitted(
            self._counts,
            priors=self._priors,
            placements=self._shop.catalog.placements,
            delays=self._delays,
            now=now,
        )
        self.posterior = Posterior(
            dict(self._priors.by_action), self._priors.others, Fitted("", now.isoformat(), beliefs)
        )

    def start_again(self, names: NDArray[np.object_], success: NDArray[np.int64]) -> None:
        """With a new model, which has learnt from all that was counted."""
        learnt = action_priors(names, success)
        self._priors = Priors(learnt.by_action, learnt.new, learnt.new)
        self._counts = {}
        self.posterior = Posterior(dict(learnt.by_action), learnt.new)


def _estimates(scores: Scores, worth: Floats, placement: Placement) -> Estimates:
    chances = scores.corrected
    values = scaled(chances * worth, placement.priority_scale)
    if scores.sds is None:
        return Estimates.known(values)
    return Estimates(values, worth / placement.priority_scale * chances * (1.0 - chances) * scores.sds)
