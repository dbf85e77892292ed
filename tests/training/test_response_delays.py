from datetime import timedelta

import numpy as np

from tests.builders import NOW, slot
from tests.training.test_examples import DECIDED, FakeLedger, outcome, record, shop
from training.response_delays import response_delays


def test_delays_of_a_placement_are_learnt_from_what_its_decisions_earned() -> None:
    records = [record(decision_id=f"d-{n}") for n in range(400)]
    clicked = [
        outcome(
            "click",
            decision_id=f"d-{n}",
            outcome_id=f"o-{n}",
            occurred_at=DECIDED + timedelta(hours=1),
            received_at=DECIDED + timedelta(hours=1 if n % 2 else 30),
        )
        for n in range(400)
    ]
    reload = record(decision_id="r", slots=(slot(repeats="d-0"),))
    found = response_delays(FakeLedger(*records, reload, outcomes=tuple(clicked)), shop(), now=NOW)
    assert set(found) == {"home_hero", "newsletter"}
    assert (found["home_hero"].seen, found["newsletter"].seen) == (400, 0)
    early, later, whole = found["home_hero"].arrived_by(np.array([1_800.0, 2 * 3_600.0, 2 * 86_400.0]))
    assert early < 0.03
    assert abs(later - 0.5) < 0.1
    assert whole > 0.97
