import numpy as np

from decisioning import decision as funnel
from decisioning.case import HOLDOUT, RANKED, Case
from decisioning.exploration import Greedy
from decisioning.profile import Facts
from decisioning.record import ModelVersion, Shadow
from decisioning.scores import Scores
from decisioning.shadow import casts_shadow, shadow_of
from decisioning.slots import FilledSlot, slot_probabilities
from tests.builders import CONSENTED, case, catalog, placement

CHALLENGER = ModelVersion("shop-propensity", "8", "2" * 64)


def decided(asked: Case, propensities: list[float], reason: str = RANKED) -> funnel.Choice:
    narrowed = funnel.narrow(asked, Facts(features={}, hot=CONSENTED))
    return funnel.Choice(narrowed, funnel.plan(asked, narrowed, Scores(np.array(propensities)), key=b"key"), reason)


def said(asked: Case, propensities: list[float], *filled: FilledSlot) -> Shadow:
    choice = decided(asked, [0.3, 0.2, 0.1])
    return shadow_of(asked, choice, Scores(np.array(propensities)), filled, model=CHALLENGER)


def test_a_shadow_with_the_same_scores_would_have_drawn_with_the_logged_probability() -> None:
    asked = case()
    choice = decided(asked, [0.3, 0.2, 0.1])
    filled = [FilledSlot(1, (0, 1)), FilledSlot(0, (0,))]
    shadow = shadow_of(asked, choice, Scores(np.array([0.3, 0.2, 0.1])), filled, model=CHALLENGER)
    assert shadow.probabilities[1] == slot_probabilities(choice.planned.spread, filled)[0]


def test_a_shadow_chooses_by_its_own_scores() -> None:
    greedy = catalog(placements=(placement(exploration=Greedy()),))
    assert said(case(greedy), [0.1, 0.5, 0.2], FilledSlot(0, (0, 1, 2))).probabilities == (0.0, 1.0, 0.0)


def test_what_was_gone_at_the_reservation_a_shadow_could_not_have_had_either() -> None:
    greedy = catalog(placements=(placement(exploration=Greedy()),))
    assert said(case(greedy), [0.1, 0.5, 0.2], FilledSlot(0, (0, 2))).probabilities == (1.0, 0.0, 0.0)


def test_where_nothing_could_be_shown_a_shadow_speaks_of_all_candidates() -> None:
    assert sum(said(case(), [0.1, 0.5, 0.2]).probabilities) == 1.0


def test_a_preview_and_the_control_cast_no_shadow() -> None:
    choice = decided(case(), [0.3, 0.2, 0.1])
    assert casts_shadow(case(), choice)
    assert not casts_shadow(case(mode="preview"), choice)
    assert not casts_shadow(case(), choice._replace(reason=HOLDOUT))
    assert not casts_shadow(case(), choice._replace(planned=funnel.NOTHING))
