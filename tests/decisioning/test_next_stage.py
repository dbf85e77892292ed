from datetime import timedelta

import numpy as np
import pytest

from decisioning.bundle import ModelFeature
from decisioning.catalog_checks import mistakes
from decisioning.content import FeatureTypes, Journey, Stage
from decisioning.next_stage import ASKED, StageRows, chances, current_stages, foretold
from tests.builders import action, content

LIFE = Journey(
    id="life",
    horizon=timedelta(days=30),
    stages=(Stage(id="new", name="New", entry="true"), Stage(id="loyal", name="Loyal")),
)
MOOD = Journey(id="mood", horizon=timedelta(days=7), stages=(Stage(id="happy", name="Happy"),))
UNTOLD = Journey(id="untold", stages=(Stage(id="any", name="Any"),))
FEATURES = (
    ModelFeature("age", "customer", "number"),
    ModelFeature("current_life", "context", "category", ("loyal", "new")),
    ModelFeature("current_mood", "context", "category", ("happy",)),
    ModelFeature(ASKED, "context", "category", ("happy", "loyal", "new")),
)


def test_only_journeys_with_a_horizon_are_foretold() -> None:
    assert [stage for _, stage in foretold((LIFE, UNTOLD, MOOD))] == ["new", "loyal", "happy"]


def test_a_row_asks_for_a_stage_and_says_where_the_customer_is_in_its_journey() -> None:
    rows = StageRows(FEATURES)
    asked = rows.asked((LIFE, MOOD))
    given = rows.rows(asked, {"age": 41.0, "city": "ulm"}, ("new",))
    np.testing.assert_array_equal(given, [[41.0, 1.0, np.nan, stage] for stage in (2.0, 1.0, 0.0)])


def test_a_stage_that_the_model_never_met_is_not_foretold() -> None:
    later = Journey(id="life", horizon=LIFE.horizon, stages=(*LIFE.stages, Stage(id="retired", name="Retired")))
    assert [stage for _, stage in StageRows(FEATURES).asked((later,))] == ["new", "loyal"]


def test_a_customer_may_be_in_no_stage_of_a_journey() -> None:
    assert current_stages((LIFE, MOOD), ("happy",)) == {"current_life": None, "current_mood": "happy"}


def test_chances_of_one_journey_are_scaled_down_to_1_and_never_up() -> None:
    asked = foretold((LIFE, MOOD))
    assert chances(asked, np.array([0.8, 0.8, 0.9])) == {
        "chance_of_new": 0.5,
        "chance_of_loyal": 0.5,
        "chance_of_happy": 0.9,
    }
    assert chances(asked, np.array([0.2, 0.1, 0.0]))["chance_of_new"] == 0.2


def test_rules_may_name_what_is_foretold_and_nothing_else() -> None:
    shop = content(action(), journeys=(LIFE, UNTOLD), features=FeatureTypes(customer={"age": "number"}))
    kinds = shop.rule_features()
    assert kinds is not None
    assert kinds.customer == {"chance_of_new": "number", "chance_of_loyal": "number", "age": "number"}


@pytest.mark.parametrize(
    ("journey", "said"),
    [
        (
            Journey(id="j", horizon=timedelta(0), stages=(Stage(id="a", name="A"),)),
            "journeys[j].horizon: is 0 days, must be 1 to 365",
        ),
        (
            Journey(id="j", horizon=timedelta(days=30), stages=(Stage(id="a-b", name="A"),)),
            "journeys[j].stages[a-b].id: is foretold, so rules must be able to name it: letters, digits and _ only",
        ),
        (
            Journey(id="j", stages=(Stage(id="a", name="A", entry="customer.chance_of_b > 0.5"),)),
            "journeys[j].stages[a].entry: names a chance that is foretold from the stages; a stage may not"
            " depend on it",
        ),
    ],
)
def test_what_cannot_be_foretold_is_refused(journey: Journey, said: str) -> None:
    assert said in mistakes(content(action(), journeys=(journey,)))
