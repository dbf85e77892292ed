"""What-if reports on logs whose truth is known."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.bundle import Scored
from decisioning.catalog import Release
from decisioning.content import Action, Audience, Budget
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.errors import BundleError, DataError, StoreError
from decisioning.evaluation import Estimate
from decisioning.exploration import BootstrapThompson, EpsilonGreedy, Greedy
from decisioning.feeds import Gap, Untold
from decisioning.reasons import Drop
from decisioning.record import DecisionRecord, OutcomeRecord
from serving.engine import Engine
from storage.settings import Settings
from tests.builders import CONSENTED, NOW, action, contact, placement, release, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer
from tests.random_shops import KEY, back, random_decisions
from training import what_if_reward
from training.redecide import NOTHING, Comparison, PolicyComparison, market_of
from training.tracking import Tracking
from training.what_if import WhatIf, log_what_if, what_if

UNIFORM = EpsilonGreedy(epsilon=1.0)
CLOSED = NOW + timedelta(days=8)
PROPENSITIES = {"card": 0.3, "loan": 0.2, "fund": 0.4, NO_ACTION: 0.1}
ENSEMBLE = FakeScorer(
    PROPENSITIES, members={"card": [0.3] * 4, "loan": [0.4, 0.25, 0.1, 0.1], NO_ACTION: [0.1, 0.1, 0.1, 0.0]}
)


class Model:
    """The fake scorer as a model, which counts what it is asked."""

    def __init__(self, scorer: FakeScorer | None = None) -> None:
        self._scorer = scorer or FakeScorer(PROPENSITIES)
        self.features = self._scorer.manifest.features
        self.asked = 0

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        self.asked += len(rows)
        return self._scorer.score(rows, with_members=with_members)


def shop(*actions: Action, exploration: Any = UNIFORM, version: str = "sha256:old", **overrides: Any) -> Release:
    hero = placement(slots=1, exploration=exploration, shown_by="decision", reward={"accept": 1.0})
    given = actions or (action("card"), action("loan", group="loans"), action(NO_ACTION))
    made = release(*given, **{"placements": (hero,), **overrides})
    return Release({name: market.content for name, market in made.markets.items()}, version=version)


def age_of(number: int) -> float:
    return 20.0 + number * 7 % 40


def chance(action_id: str, age: float) -> float:
    """How likely an acceptance truly is."""
    return {"card": 0.5, "loan": 0.2 + (age - 20.0) / 80.0, NO_ACTION: 0.1}[action_id]


def logged(served: Release, count: int, *, scorer: FakeScorer | None = None, **fields: Any) -> list[DecisionRecord]:
    """Decisions for as many customers, as the ledger gives them back."""
    features = FakeFeatures({f"c-{n}": {"age": age_of(n), "city": "ulm"} for n in range(count)})

    async def all_of_them() -> list[DecisionRecord]:
        records = []
        for n in range(count):
            engine = Engine(
                release=served,
                features=features,
                hot_state=FakeHotState(CONSENTED),
                ledger=FakeLedger(),
                scorer=scorer or FakeScorer(PROPENSITIES),
                draw_key=KEY,
            )
            asked = request(customer_id=f"c-{n}", decision_id=f"d-{n}", **fields)
            records.append(await engine.decide(asked, now=NOW))
        return records

    return [back(record) for record in asyncio.run(all_of_them())]


def outcome(decision_id: str, kind: str, *, at: datetime = NOW) -> OutcomeRecord:
    return OutcomeRecord(
        outcome_id=f"{decision_id}-{kind}", decision_id=decision_id, action_id=None, type=kind, detail=None, value=None,
        occurred_at=at, received_at=at,
    )  # fmt: skip


def seen_by_half(records: Iterable[DecisionRecord], seed: int = 0) -> dict[str, list[OutcomeRecord]]:
    """Every second action is seen, and what is seen is accepted with its chance; nothing is always met."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[OutcomeRecord]] = {}
    for record in records:
        shown = record.slots[0].action_id
        is_seen = shown == NO_ACTION or rng.random() < 0.5
        if is_seen and shown != NO_ACTION:
            found[record.decision_id] = [outcome(record.decision_id, "impression")]
        if is_seen and rng.random() < chance(shown, float(record.features["age"] or 0.0)):  # type: ignore[arg-type]
            found.setdefault(record.decision_id, []).append(outcome(record.decision_id, "accept"))
    return found


def accepted(records: Iterable[DecisionRecord], seed: int = 0) -> dict[str, list[OutcomeRecord]]:
    rng = np.random.default_rng(seed)
    return {
        record.decision_id: [outcome(record.decision_id, "accept")]
        for record in records
        if rng.random() < chance(record.slots[0].action_id, float(record.features["age"] or 0.0))  # type: ignore[arg-type]
    }


def compare(
    records: Sequence[DecisionRecord],
    new: Release,
    *old: Release,
    outcomes: dict[str, list[OutcomeRecord]] | None = None,
    model: Model | None = None,
    **options: Any,
) -> WhatIf:
    releases = {each.version: each for each in (*old, new)}

    def release_of(version: str) -> Release:
        if version not in releases:
            raise StoreError("gone")
        return releases[version]

    def model_of(sha256: str) -> Model:
        if model is None:
            raise BundleError("gone")
        return model

    comparison = Comparison(
        new,
        releases=release_of,
        models=model_of,
        key_of=lambda key_id: KEY.secret if key_id == KEY.key_id else None,
    )
    return what_if(records, outcomes or {}, comparison, **{"now": CLOSED, **options})


def near(found: Estimate, truth: float) -> bool:
    """Within four standard errors, the interval being 3.92 of them wide."""
    return abs(found.value - truth) < 4.0 * (found.high - found.low) / 3.92


@pytest.mark.parametrize("seed", range(12))
def test_the_same_catalogue_changes_no_random_decision(seed: int) -> None:
    pairs = list(random_decisions(np.random.default_rng([seed, 2]), 12))
    served = pairs[0][0]
    report = compare([record for _, record in pairs], served)
    assert report.decisions == len(pairs)
    assert report.changed == pytest.approx(0.0, abs=1e-12)
    assert (report.changed_draws, report.draws) == (0, len(pairs))


@pytest.mark.parametrize(("count", "estimator"), [(300, "snips"), (1100, "dr")])
def test_the_same_catalogue_earns_what_was_logged(count: int, estimator: str) -> None:
    served = shop()
    records = logged(served, count)
    outcomes = accepted(records)
    report = compare(records, served, outcomes=outcomes, model=Model())
    assert report.learnable == count
    assert report.earned is not None
    assert report.earned.estimator == estimator
    assert report.earned.estimable == pytest.approx(1.0)
    assert report.earned.new.value == pytest.approx(len(outcomes) / count)
    assert report.earned.difference.low == report.earned.difference.high == pytest.approx(0.0, abs=1e-12)
    assert report.warnings == ()


@pytest.mark.parametrize(("count", "estimator"), [(900, "snips"), (1800, "dr")])
def test_the_estimate_is_near_the_truth(count: int, estimator: str) -> None:
    old, new = shop(), shop(action("card", status="retired"), action("loan"), action(NO_ACTION), version="sha256:new")
    records = logged(old, count)
    report = compare(records, new, old, outcomes=accepted(records), model=Model())
    truth = np.mean([0.5 * (chance("loan", age_of(n)) + chance(NO_ACTION, age_of(n))) for n in range(count)])
    before = np.mean([np.mean([chance(name, age_of(n)) for name in ("card", "loan", NO_ACTION)]) for n in range(count)])
    assert report.earned is not None
    assert report.earned.estimator == estimator
    assert near(report.earned.new, float(truth))
    assert near(report.earned.difference, float(truth - before))
    assert not near(report.earned.new, float(before))
    assert report.changed == pytest.approx(count / 3.0)
    assert {shift.action_id: (shift.before, shift.after) for shift in report.actions} == {
        name: (pytest.approx(count / 3.0), pytest.approx(after))
        for name, after in (("card", 0.0), ("loan", count / 2.0), (NO_ACTION, count / 2.0))
    }


@pytest.mark.parametrize(("count", "estimator"), [(900, "snips"), (1800, "dr")])
def test_the_estimate_of_another_policy_is_near_the_truth(count: int, estimator: str) -> None:
    served = shop()
    records, model = logged(served, count), Model()
    comparison = PolicyComparison(
        EpsilonGreedy(epsilon=0.3),
        "test",
        releases=lambda _: served,
        models=lambda _: model,
        key_of=lambda _: KEY.secret,
    )
    report = what_if(records, accepted(records), comparison, now=CLOSED)
    worth = {name: np.mean([chance(name, age_of(n)) for n in range(count)]) for name in ("card", "loan", NO_ACTION)}
    truth = 0.7 * worth["card"] + 0.1 * sum(worth.values())  # the card's priority is the highest
    before = np.mean(list(worth.values()))
    assert report.earned is not None
    assert report.earned.estimator == estimator
    assert near(report.earned.new, float(truth))
    assert near(report.earned.difference, float(truth - before))
    assert report.earned.difference.low > 0.0
    assert {shift.action_id: shift.after for shift in report.actions} == {
        name: pytest.approx(count * share) for name, share in (("card", 0.8), ("loan", 0.1), (NO_ACTION, 0.1))
    }


@pytest.mark.parametrize("seed", range(6))
def test_the_logged_policy_changes_no_random_decision(seed: int) -> None:
    pairs = list(random_decisions(np.random.default_rng([seed, 3]), 8))
    served, records = pairs[0][0], [record for _, record in pairs]
    for record in records:
        placed = served.of(market_of(record)).under(record.assignments).placements[record.placement]
        comparison = PolicyComparison(
            placed.exploration, "test", releases=lambda _: served, models=lambda _: Model(), key_of=lambda _: KEY.secret
        )
        shift = comparison.shift(record)
        assert shift.changed == pytest.approx(0.0, abs=1e-12)
        assert shift.drawn is None or shift.drawn[0] == shift.drawn[1]


@pytest.mark.parametrize(("count", "estimator"), [(900, "snips"), (1800, "dr")])
def test_the_estimate_is_near_the_truth_where_being_met_hangs_on_the_action(count: int, estimator: str) -> None:
    """Half of what is shown is never seen; to show nothing is always met."""
    hero = placement(slots=1, exploration=UNIFORM, shown_by="impression", reward={"accept": 1.0})
    old = shop(placements=(hero,))
    new = shop(
        action("card"), action("loan", status="retired"), action(NO_ACTION),
        placements=(msgspec.structs.replace(hero, exploration=EpsilonGreedy(epsilon=0.2)),), version="sha256:new",
    )  # fmt: skip
    records = logged(old, count)
    outcomes = seen_by_half(records)
    report = compare(records, new, old, outcomes=outcomes, model=Model())
    worth = {name: np.mean([chance(name, age_of(n)) for n in range(count)]) for name in ("card", "loan", NO_ACTION)}
    worth = {name: value * (1.0 if name == NO_ACTION else 0.5) for name, value in worth.items()}
    # The card's priority is 3.0, that of showing nothing 0.1.
    truth = 0.9 * worth["card"] + 0.1 * worth[NO_ACTION]
    before = np.mean(list(worth.values()))
    assert report.learnable == count
    assert report.earned is not None
    assert report.earned.estimator == estimator
    assert report.earned.logged.value == pytest.approx(sum(o[-1].type == "accept" for o in outcomes.values()) / count)
    assert near(report.earned.logged, float(before))
    assert near(report.earned.new, float(truth))
    assert near(report.earned.difference, float(truth - before))


def test_a_perfect_reward_model_leaves_no_bias_where_being_met_hangs_on_the_action(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = shop(placements=(placement(slots=1, exploration=UNIFORM, reward={"accept": 1.0}),))
    new = shop(action("card"), action("loan"), action(NO_ACTION, status="retired"), version="sha256:new")
    count = 1500
    records = logged(old, count)
    columns = sorted(("card", "loan", NO_ACTION))

    def truths(record: DecisionRecord) -> list[float]:
        age = float(record.features["age"] or 0.0)  # type: ignore[arg-type]
        return [chance(name, age) * (1.0 if name == NO_ACTION else 0.5) for name in columns]

    monkeypatch.setattr(
        what_if_reward, "_expected", lambda shifts, *_: np.array([truths(shift.record) for shift in shifts])
    )
    report = compare(records, new, old, outcomes=seen_by_half(records), model=Model())
    truth = float(np.mean([[each[0], each[1]] for each in map(truths, records)]))
    assert report.earned is not None
    assert report.earned.estimator == "dr"
    assert near(report.earned.new, truth)


def test_a_reload_is_no_decision_of_its_own_and_its_outcomes_are_the_firsts() -> None:
    served = shop(placements=(placement(slots=1, exploration=UNIFORM, reward={"click": 1.0}),))
    [first] = logged(served, 1)
    going_on = [msgspec.structs.replace(c, tier=-(c.action_id == first.slots[0].action_id)) for c in first.candidates]
    reload = msgspec.structs.replace(
        first, decision_id="reload", candidates=tuple(going_on),
        slots=(msgspec.structs.replace(first.slots[0], repeats=first.decision_id, probability=1.0),),
    )  # fmt: skip
    clicked = outcome("reload", "click")
    report = compare([first, reload], served, outcomes={"reload": [clicked]})
    assert (report.decisions, report.learnable) == (2, 1)
    assert report.earned is not None
    assert report.earned.logged.value == 1.0


def test_a_planned_contact_can_be_learnt_from_once_its_own_window_is_closed() -> None:
    mail = placement("newsletter", channel="email", slots=1, exploration=UNIFORM, shown_by="sent",
                     reward={"click": 1.0})  # fmt: skip
    served = shop(placements=(mail,))
    planned = NOW + timedelta(days=3)
    records = logged(served, 30, placement="newsletter", planned_at=planned)
    outcomes = {record.decision_id: [outcome(record.decision_id, "click", at=planned + timedelta(days=6))]
                for record in records}  # fmt: skip
    assert compare(records, served, outcomes=outcomes, now=planned + timedelta(days=6)).learnable == 0
    report = compare(records, served, outcomes=outcomes, now=planned + timedelta(days=7))
    assert report.learnable == 30
    assert report.earned is not None
    assert report.earned.logged.value == 1.0


def test_what_the_log_never_drew_is_not_estimable_and_said_so() -> None:
    old = shop()
    new = shop(*old.blueprint.content.actions, action("fund"), version="sha256:new")
    records = logged(old, 600)
    report = compare(records, new, old, outcomes=accepted(records), model=Model())
    assert report.earned is not None
    assert report.earned.estimable == pytest.approx(0.75)
    assert report.earned.new.value == pytest.approx(report.earned.logged.value)
    assert report.changed == pytest.approx(150.0)
    assert "25.0% of the new catalogue's choices are not estimable" in report.warnings[0]


def test_an_action_that_was_not_scored_is_asked_of_the_decisions_own_model() -> None:
    old = shop(action("card"), action("fund", eligibility="false"), exploration=Greedy())
    new = shop(action("card"), action("fund"), exploration=Greedy(), version="sha256:new")
    model = Model()
    report = compare(logged(old, 20), new, old, model=model)
    assert model.asked == 20
    assert [(shift.action_id, shift.before, shift.after) for shift in report.actions] == [
        ("card", 20.0, 0.0), ("fund", 0.0, 20.0),
    ]  # fmt: skip
    assert report.changed == report.changed_draws == report.draws == 20


def test_an_action_of_which_the_model_is_told_something_else_is_scored_again() -> None:
    old, new = (
        shop(action("card"), action("loan")),
        shop(action("card", value=11.0), action("loan"), version="sha256:n"),
    )
    model = Model()
    compare(logged(old, 5), new, old, model=model)
    assert model.asked == 5


def test_without_its_model_such_a_decision_is_left_out_and_counted() -> None:
    old = shop(action("card"))
    records = [*logged(old, 3), *logged(old, 2, exclude=["card"])]
    new = shop(action("card"), action("fund"), version="sha256:new")
    with pytest.raises(DataError, match="5: its model is needed"):
        compare(records, new, old)


def by_members(served: Release, records: Sequence[DecisionRecord], model: Model) -> WhatIf:
    comparison = PolicyComparison(
        BootstrapThompson(), "test", releases=lambda _: served, models=lambda _: model, key_of=lambda _: KEY.secret
    )
    return what_if(records, {}, comparison, now=CLOSED)


def sent(version: str = "sha256:old", **loan: Any) -> Release:
    letter = placement(slots=1, exploration=BootstrapThompson(), shown_by="sent", reward={"accept": 1.0})
    return shop(action("card"), action("loan", group="loans", **loan), placements=(letter,), version=version)


def after(report: WhatIf) -> dict[str, float]:
    return {shift.action_id: shift.after for shift in report.actions}


def test_another_policy_may_go_by_the_members_of_the_decisions_own_model() -> None:
    report = by_members(served := shop(), logged(served, 20), model := Model(ENSEMBLE))
    assert after(report) == pytest.approx({"card": 15.0, "loan": 5.0, NO_ACTION: 0.0})
    assert model.asked == 60


def test_without_an_ensemble_a_policy_that_goes_by_one_is_not_compared() -> None:
    with pytest.raises(DataError, match="3: its model has no ensemble"):
        by_members(served := shop(), logged(served, 3), Model())


def test_members_are_taken_as_logged() -> None:
    # Levered by half, the loan is the best by a second of four.
    report = compare(logged(sent(), 20, scorer=ENSEMBLE), sent("sha256:new", lever=1.5), sent())
    assert {shift.action_id: shift.before for shift in report.actions} == pytest.approx({"card": 15.0, "loan": 5.0})
    assert after(report) == pytest.approx({"card": 10.0, "loan": 10.0})


def test_members_are_corrected_as_the_decision_was() -> None:
    [record] = logged(sent(), 1, scorer=ENSEMBLE)
    # The loan's odds are twice those that the model states: a second of four has it above the card then.
    shifted = tuple(
        msgspec.structs.replace(each, score=each.propensity, shift=np.log(2.0)) if each.action_id == "loan" else each
        for each in record.candidates
    )
    record = msgspec.structs.replace(record, candidates=shifted)
    assert after(compare([record], sent("sha256:new"), sent())) == pytest.approx({"card": 0.5, "loan": 0.5})


def test_what_was_decided_without_an_ensemble_is_decided_so_again() -> None:
    report = compare(logged(sent(), 5), sent("sha256:new"), sent())
    assert (report.changed, after(report)) == (0.0, {"card": 5.0})


def test_uplift_is_taken_over_the_logged_baseline() -> None:
    both = (
        action("card", rank_by="uplift", value=10.0),
        action("loan", rank_by="uplift", value=25.0),
        action(NO_ACTION),
    )
    old = shop(*both, exploration=Greedy())
    new = shop(*both, exploration=Greedy(), version="sha256:new")
    model = Model()
    report = compare(logged(old, 10), new, old, model=model)
    assert (report.changed, model.asked) == (0.0, 0)


UPLIFTS = {"card": 0.01, "loan": 0.15}


def test_an_uplift_that_the_model_learnt_is_taken_as_logged() -> None:
    both = (action("card", rank_by="uplift"), action("loan", rank_by="uplift"), action(NO_ACTION, value=0.1))
    old = shop(*both, exploration=Greedy())
    new = shop(*both, exploration=Greedy(), version="sha256:new")
    records = logged(old, 10, scorer=FakeScorer(PROPENSITIES, uplifts=UPLIFTS))
    assert records[0].slots[0].action_id == "loan"
    model = Model(FakeScorer(PROPENSITIES, uplifts=UPLIFTS))
    report = compare(records, new, old, model=model)
    assert (report.changed, model.asked) == (0.0, 0)


@pytest.mark.parametrize("learnt", [True, False])
def test_an_action_that_is_to_rank_by_uplift_gets_that_of_its_model(learnt: bool) -> None:
    def ranked_by(rank_by: Any, version: str) -> Release:
        each = (action("card", rank_by=rank_by), action("loan", rank_by=rank_by), action(NO_ACTION, value=0.1))
        return shop(*each, exploration=Greedy(), version=version)

    old, new = ranked_by("response", "sha256:old"), ranked_by("uplift", "sha256:new")
    uplifts = UPLIFTS if learnt else None
    records = logged(old, 10, scorer=FakeScorer(PROPENSITIES, uplifts=uplifts))
    assert records[0].slots[0].action_id == "card"
    report = compare(records, new, old, model=Model(FakeScorer(PROPENSITIES, uplifts=uplifts)))
    # Over nothing, at .1, cards at .3 still win; by what was learnt, loans do.
    assert report.changed == (10.0 if learnt else 0.0)


def test_what_was_lost_at_the_reservation_stays_lost() -> None:
    served = shop(contact_policies=(weekly_cap(per="action"),))
    hot = FakeHotState(CONSENTED)
    hot.taken_by_others = (contact("card", ago=timedelta(0)),)
    engine = Engine(
        release=served, features=FakeFeatures(), hot_state=hot, ledger=FakeLedger(),
        scorer=FakeScorer(PROPENSITIES), draw_key=KEY,
    )  # fmt: skip
    record = asyncio.run(engine.decide(request(decision_id="d"), now=NOW))
    assert [(drop.action_id, drop.reason) for drop in record.dropped] == [("card", "TAKEN_MEANWHILE")]
    assert compare([record], served).changed == pytest.approx(0.0)


def test_what_a_later_slot_alone_could_not_have_was_there_for_the_first() -> None:
    served = shop()
    [record] = logged(served, 1)
    other = next(c.action_id for c in record.candidates if c.action_id != record.slots[0].action_id)
    drop = Drop(other, "reservation", "CAP_REACHED", "the slot before took what was left")
    assert compare([msgspec.structs.replace(record, dropped=(drop,))], served).changed == pytest.approx(0.0)


def test_only_the_audience_that_the_rule_is_about_changes() -> None:
    audiences = (Audience(id="young", rule="customer.age < 40.0"), Audience(id="old", rule="customer.age >= 40.0"))
    old = shop(action("card", value=20.0), action("loan"), exploration=Greedy())
    new = shop(
        action("card", value=20.0, suitability="!in_audience('young')"), action("loan"),
        exploration=Greedy(), audiences=audiences, version="sha256:new",
    )  # fmt: skip
    report = compare(logged(old, 80), new, old, model=Model())
    young = sum(age_of(n) < 40.0 for n in range(80))
    found = {shift.audience: shift for shift in report.audiences}
    assert (found["young"].decisions, found["young"].changed) == (young, young)
    assert (found["young"].gains, found["young"].loses) == ("loan", "card")
    assert (found["old"].changed, found["old"].gains, found["old"].loses) == (0.0, "", "")


def test_a_catalogue_that_shows_nothing_says_so() -> None:
    old = shop(action("card"))
    report = compare(logged(old, 5), shop(action("card", status="retired"), version="sha256:new"), old)
    assert {shift.action_id: shift.after for shift in report.actions} == {"card": 0.0, NOTHING: 5.0}
    assert report.earned is None


def test_a_budget_that_the_log_does_not_know_is_taken_as_unspent() -> None:
    old = shop(action("card"))
    pot = Budget(id="pot", amount=10.0, period=timedelta(days=30), starts=NOW - timedelta(days=1))
    report = compare(
        logged(old, 5), shop(action("card", budget="pot", cost=10.0), budgets=(pot,), version="sha256:new"), old
    )
    assert report.changed == 0.0
    assert "budgets pot" in report.warnings[-1]


def test_a_budget_that_shrank_holds_so_much_less() -> None:
    def with_pot(amount: float, version: str) -> Release:
        pot = Budget(id="pot", amount=amount, period=timedelta(days=30), starts=NOW - timedelta(days=1))
        return shop(action("card", budget="pot", cost=10.0), budgets=(pot,), version=version)

    old = with_pot(100.0, "sha256:old")
    records = [
        msgspec.convert({**msgspec.to_builtins(record), "budgets": (("pot", 50.0),)}, DecisionRecord)
        for record in logged(shop(action("card", cost=10.0)), 5)
    ]
    assert compare(records, with_pot(60.0, "sha256:new"), old).changed == 0.0
    assert compare(records, with_pot(59.0, "sha256:new"), old).changed == 5.0


def test_what_the_new_catalogue_lacks_is_left_out_and_counted() -> None:
    old = shop()
    elsewhere = placement("footer", slots=1, exploration=UNIFORM)
    asked_by_name = logged(old, 2, actions=["loan"])
    new = shop(action("card"), action(NO_ACTION), version="sha256:new")
    report = compare([*logged(old, 3), *asked_by_name], new, old)
    assert (report.decisions, report.left_out) == (3, {"the new catalogue lacks what the request names: actions[0]": 2})
    with pytest.raises(DataError, match="5: the new catalogue lacks what the request names: placement"):
        compare(logged(old, 5), shop(placements=(elsewhere,), version="sha256:new"), old)


def test_a_decision_whose_own_catalogue_is_gone_is_left_out() -> None:
    with pytest.raises(DataError, match="2: its own catalogue cannot be read any more"):
        compare(logged(shop(), 2), shop(version="sha256:new"))


def test_decisions_of_another_market_are_no_part_of_it() -> None:
    with pytest.raises(DataError, match=r"market 'de', they are of global \(2\); name one of these with --market"):
        compare(logged(shop(), 2), shop(), market="de")
    with pytest.raises(DataError, match="the ledger has none"):
        compare([], shop(), market="de")


@pytest.mark.parametrize("market", [None, BLUEPRINT])
def test_decisions_from_before_markets_are_of_the_blueprint(market: str | None) -> None:
    blueprint = shop().blueprint.content
    of_old = msgspec.structs.replace(blueprint, market="default")
    old = Release({BLUEPRINT: blueprint, "default": of_old}, version="sha256:old")
    records = [msgspec.structs.replace(record, market="default") for record in logged(old, 4)]
    new = shop(action("card"), action(NO_ACTION), version="sha256:new")
    report = compare(records, new, old, market=market)
    assert (report.decisions, report.left_out) == (4, {})
    assert report.changed == pytest.approx(4 / 3)


def test_a_market_that_is_called_default_now_is_not_the_blueprint() -> None:
    blueprint = shop().blueprint.content
    fewer = msgspec.structs.replace(blueprint, market="default", actions=(action("card"), action(NO_ACTION)))
    served = Release({BLUEPRINT: blueprint, "default": fewer}, version="sha256:old")
    report = compare(logged(served, 4, market="default"), served)
    assert (report.decisions, report.changed) == (4, 0.0)
    with pytest.raises(DataError, match=r"they are of default \(4\)"):
        compare(logged(served, 4, market="default"), served, market=BLUEPRINT)


def test_before_its_window_closes_no_reward_is_estimated() -> None:
    served = shop()
    records = logged(served, 50)
    report = compare(records, served, outcomes=accepted(records), now=NOW + timedelta(days=6))
    assert (report.learnable, report.earned) == (0, None)
    assert "attribution window closed" in report.warnings[0]


def test_decisions_whose_outcomes_were_not_told_are_compared_but_earn_nothing() -> None:
    """Half of the decisions were made while nobody told what was accepted; the logged value is that of the others."""
    served = shop()
    records = logged(served, 40)
    quiet = [msgspec.structs.replace(each, decided_at=NOW - timedelta(days=20)) for each in records[:20]]
    records = [*quiet, *records[20:]]
    outcomes = {each.decision_id: [outcome(each.decision_id, "accept")] for each in records[20:]}
    gap = Gap("web", "outcome:accept", NOW - timedelta(days=21), NOW - timedelta(days=19))
    naive = compare(records, served, outcomes=outcomes)
    report = compare(records, served, outcomes=outcomes, untold=Untold([gap]))
    assert (report.decisions, report.learnable, naive.learnable) == (40, 20, 40)
    assert report.earned is not None
    assert naive.earned is not None
    assert (report.earned.logged.value, naive.earned.logged.value) == (1.0, 0.5)
    assert report.warnings[0].startswith(
        "of the estimate, 20 decisions are left out: outcomes 'accept' of 'web' were not"
    )


def test_what_went_on_from_an_earlier_decision_is_compared_but_not_weighed() -> None:
    served = shop()
    [record] = logged(served, 1)
    going_on = [msgspec.structs.replace(record.candidates[0], tier=-1), *record.candidates[1:]]
    shown = msgspec.structs.replace(record.slots[0], action_id=going_on[0].action_id, probability=1.0)
    report = compare([msgspec.structs.replace(record, candidates=tuple(going_on), slots=(shown,))], served)
    assert (report.decisions, report.learnable) == (1, 0)


def test_too_few_effective_decisions_are_warned_of() -> None:
    served = shop()
    records = logged(served, 12)
    warnings = compare(records, served, outcomes=accepted(records)).warnings
    assert any("only 12 of 12 decisions count" in warning for warning in warnings)
    assert any("fewer than 30 customers" in warning for warning in warnings)


def test_a_report_goes_to_mlflow_with_its_figure(tmp_path: Path) -> None:
    served = shop()
    records = logged(served, 200)
    report = compare(records, served, outcomes=accepted(records))
    tracking = Tracking(Settings(home=tmp_path))
    run = tracking.client.get_run(log_what_if(tracking, report))
    assert tracking.client.get_experiment(run.info.experiment_id).name == "what-if"
    assert run.data.metrics["changed"] == pytest.approx(0.0)
    assert run.data.metrics["new_reward"] == report.earned.new.value  # type: ignore[union-attr]
    files = {
        file.path
        for folder in ("figures", "what_if")
        for file in tracking.client.list_artifacts(run.info.run_id, folder)
    }
    assert {"figures/what_if.png", "what_if/actions.csv", "what_if/report.json"} <= files
    assert msgspec.json.decode(msgspec.json.encode(report), type=WhatIf) == report
