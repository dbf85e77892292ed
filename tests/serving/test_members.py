"""What is sent explores by the members of an ensemble; where somebody waits, nobody asks for them."""

from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.content_types import NO_ACTION
from decisioning.exploration import BootstrapThompson
from decisioning.record import DecisionRecord
from decisioning.replay import replay
from tests.builders import action, catalog, placement
from tests.fakes import FakeScorer
from tests.serving.test_engine import Shop

LETTER = placement("newsletter", channel="email", slots=1, shown_by="sent", exploration=BootstrapThompson())
PROPENSITIES = {"card": 0.3, "loan": 0.2, NO_ACTION: 0.01}
# Of ten, the loan is the best by three, and by one as good as the card.
MEMBERS = {"card": [0.3] * 10, "loan": [0.4] * 3 + [0.3] + [0.1] * 6, NO_ACTION: [0.01] * 10}


def shop(*, members: dict[str, Any] | None = MEMBERS, rank_by: Any = "response") -> Shop:
    sold = catalog(
        action("card"),
        action("loan", group="loans", rank_by=rank_by),
        action(NO_ACTION, group="other", value=1.0),
        placements=(placement(), LETTER),
    )
    return Shop(sold, scorer=FakeScorer(PROPENSITIES, members=members))


def sent(of: Shop, decision_id: str = "d-1") -> DecisionRecord:
    return of.decide(placement="newsletter", decision_id=decision_id)


def shares(record: DecisionRecord) -> dict[str, float]:
    return {each.action_id: each.weight for each in record.candidates if each.tier == 0}


def test_what_is_sent_is_chosen_by_the_shares_of_the_members() -> None:
    of = shop()
    records = [sent(of, f"d-{number}") for number in range(50)]
    for record in records:
        assert shares(record) == pytest.approx({"card": 0.65, "loan": 0.35})
        [slot] = record.slots
        assert slot.probability == pytest.approx(shares(record)[slot.action_id])
    assert {record.slots[0].action_id for record in records} == {"card", "loan"}


def test_the_record_has_what_each_member_said_and_replays_to_the_bit() -> None:
    of = shop()
    record = msgspec.json.decode(msgspec.json.encode(sent(of)), type=DecisionRecord)
    said = {each.action_id: each.members for each in record.candidates}
    assert said["loan"] == tuple(np.float32(MEMBERS["loan"]).tolist())
    assert replay(record, of.engine.release.blueprint, key=b"0123456789abcdef").identical
    [loan] = [each for each in record.candidates if each.action_id == "loan"]
    candidates = tuple(
        msgspec.structs.replace(each, members=(0.1,) * 10) if each is loan else each for each in record.candidates
    )
    other = msgspec.structs.replace(record, candidates=candidates)
    assert not replay(other, of.engine.release.blueprint, key=b"0123456789abcdef").identical


def test_where_somebody_waits_no_member_is_asked_for() -> None:
    of = shop()
    record = of.decide(placement="home_hero")
    assert of.scorer.members_asked == 0
    assert [each.members for each in record.candidates] == [()] * 3


def test_without_an_ensemble_the_best_is_chosen() -> None:
    assert shares(sent(shop(members=None))) == {"card": 1.0}


def test_an_uplift_is_as_far_off_as_its_propensity() -> None:
    # By its mean the loan moves .19 of them, less than the card's .3; by three members .39, by the fourth .29.
    assert shares(sent(shop(rank_by="uplift"))) == pytest.approx({"card": 0.7, "loan": 0.3})


def test_a_challenger_in_the_shadow_goes_by_its_own_members() -> None:
    of = shop()
    of.engine.shadow = FakeScorer(PROPENSITIES, members=MEMBERS | {"loan": [0.4] * 8 + [0.1] * 2})
    record = sent(of)
    assert record.shadow is not None
    by_action = dict(zip([each.action_id for each in record.candidates], record.shadow.probabilities, strict=True))
    assert by_action == pytest.approx({"card": 0.2, "loan": 0.8, NO_ACTION: 0.0})
