import msgspec
import numpy as np
import pytest
from scipy.special import expit, logit

from decisioning import decision as funnel
from decisioning.bundle import Scored
from decisioning.catalog import Catalog
from decisioning.decision import Choice
from decisioning.exploration import BootstrapThompson, EpsilonGreedy, Estimates, Greedy
from decisioning.profile import Facts
from decisioning.record import DecisionRecord, ModelVersion
from decisioning.replay import replay
from decisioning.reservation import take
from decisioning.scores import Scores, scores_of
from decisioning.slots import distribution, key_id
from tests.builders import CONSENTED, action, case, catalog, placement

KEY = b"key"
SHIFTED = np.array([-0.4, 0.7]), np.array([0.1, 0.3])  # shifts, and how far they may be off


def corrected(shop: Catalog, scores: Scores) -> DecisionRecord:
    """A decision by these scores, as the ledger gives it back."""
    asked, known = case(shop), Facts(features={}, hot=CONSENTED)
    narrowed = funnel.narrow(asked, known)
    choice = Choice(narrowed, funnel.plan(asked, narrowed, scores, key=KEY), "RANKED")
    reservation = funnel.reservation(asked, known, choice.planned, digest="")
    filled = take(reservation, reservation.seen)
    model = ModelVersion("m", "1", "0")
    record = funnel.record_of(asked, known, choice, filled, model=model, key_id=key_id(KEY))
    return msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord)


def test_a_shift_moves_the_log_odds() -> None:
    scores = Scores(np.array([0.02, 0.3, 0.9]), shifts=np.array([0.5, -1.0, 0.0]))
    expected = expit(logit(np.array([0.02, 0.3, 0.9])) + np.array([0.5, -1.0, 0.0]))
    np.testing.assert_allclose(scores.corrected, expected, rtol=1e-14)


def test_certain_propensities_stay_certain() -> None:
    assert Scores(np.array([0.0, 1.0]), shifts=np.array([3.0, -3.0])).corrected.tolist() == [0.0, 1.0]


def test_without_a_shift_scores_are_the_models_to_the_bit() -> None:
    said = np.array([0.1, 0.7], dtype=np.float32)
    assert Scores(said).corrected.tolist() == said.tolist()
    assert Scores(said, shifts=np.zeros(2)).corrected.tolist() == said.tolist()


def test_the_last_row_is_that_of_showing_nothing_where_it_was_asked() -> None:
    scored = Scored(np.array([0.3, 0.2, 0.1]), sd=np.array([0.5, 0.4, 0.3]))
    scores = scores_of(scored, with_baseline=True)
    assert scores.propensities.tolist() == [0.3, 0.2]
    assert scores.baseline == 0.1
    assert scores.sds is not None
    assert scores.sds.tolist() == [0.5, 0.4]
    assert scores_of(scored, with_baseline=False).propensities.tolist() == [0.3, 0.2, 0.1]


def test_members_move_by_the_shift_of_their_candidate() -> None:
    said = np.array([[0.2, 0.3, 0.1], [0.1, 0.1, 0.2]])
    scores = Scores(np.array([0.2, 0.1]), shifts=np.array([-0.4, 0.7]), members=said)
    assert scores.corrected_members is not None
    np.testing.assert_allclose(scores.corrected_members, expit(logit(said.T) + np.array([-0.4, 0.7])), rtol=1e-14)


def test_the_members_of_showing_nothing_are_no_candidates() -> None:
    scored = Scored(np.array([0.3, 0.2, 0.1]), members=np.array([[0.3, 0.4], [0.2, 0.1], [0.1, 0.1]]))
    members = scores_of(scored, with_baseline=True).members
    assert members is not None
    assert members.tolist() == [[0.3, 0.4], [0.2, 0.1]]


def test_a_corrected_decision_goes_by_corrected_members_and_replays_to_the_bit() -> None:
    letter = placement(slots=1, shown_by="sent", exploration=BootstrapThompson())
    shop = catalog(action("card"), action("loan"), placements=(letter,))
    # Uncorrected, the card is the best by two of three; the shifts leave it one.
    members = np.array([[0.2, 0.2, 0.4], [0.1, 0.3, 0.1]])
    record = corrected(shop, Scores(np.array([0.2, 0.1]), None, None, *SHIFTED, members=members))
    assert [each.weight for each in record.candidates] == pytest.approx([1.0 / 3.0, 2.0 / 3.0])
    assert [each.members for each in record.candidates] == [(0.2, 0.2, 0.4), (0.1, 0.3, 0.1)]
    assert replay(record, shop, key=KEY).identical


def test_a_corrected_decision_is_recorded_and_replayed_to_the_bit() -> None:
    shop = catalog(action("card"), action("loan"), placements=(placement(slots=1),))
    record = corrected(shop, Scores(np.array([0.2, 0.1]), None, None, *SHIFTED))
    [card, loan] = record.candidates
    assert (card.score, card.shift, card.sd) == (0.2, -0.4, 0.1)
    assert loan.propensity == pytest.approx(float(expit(logit(0.1) + 0.7)))
    assert replay(record, shop, key=KEY).identical


@pytest.mark.parametrize(("minimum", "expected"), [(0.0, [1.0, 0.0, 0.0]), (0.1, [0.8, 0.1, 0.1]), (0.4, [1 / 3] * 3)])
def test_no_candidate_is_rarer_than_the_floor(minimum: float, expected: list[float]) -> None:
    greedy = Greedy(minimum_probability=minimum)
    spread = distribution(greedy, Estimates.known(np.array([0.9, 0.2, 0.1])))
    at_tier_0 = np.where(spread.tiers == 0, spread.weights, 0.0)
    np.testing.assert_allclose(at_tier_0, expected, atol=1e-15)


def test_a_floor_is_named_in_the_record_only_where_there_is_one() -> None:
    assert funnel.policy_version(placement(exploration=EpsilonGreedy(epsilon=0.1))).parameters == {
        "policy": "epsilon_greedy",
        "epsilon": 0.1,
    }
    floored = funnel.policy_version(placement(exploration=Greedy(minimum_probability=0.05)))
    assert floored.parameters == {"policy": "greedy", "minimum_probability": 0.05}
