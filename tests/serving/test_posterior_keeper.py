"""The online posterior beside a running service: counted by one, taken up by all, and the same after a rebuild."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from decisioning.exploration import Greedy
from decisioning.record import DecisionRecord
from decisioning.replay import replay
from serving.engine import Engine
from serving.posterior_keeper import COUNT_EVERY, FIT_EVERY, PosteriorKeeper
from storage.hot_state.posteriors import open_posterior
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import NOW, action, catalog, placement
from tests.fakes import AS_OF
from tests.serving.test_engine import Shop
from tests.storage.hot_stores import settings_for
from tests.storage.kept import event, outcome

HOME = placement(
    shown_by="decision",
    slots=1,
    exploration=Greedy(),
    attribution_window=timedelta(hours=1),
    reward={"accept": 1.0, "purchase": 1.0},
)
SHOP = catalog(action("card", promotes=("gold",)), action("loan"), placements=(HOME,))


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with settings_for(request.param, Settings(home=tmp_path / "home", domain="shop")) as found:
        yield found


class Service:
    """An engine over fakes whose decisions are also kept in the ledger, and its keeper, at a time of the test's."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.now = settings, NOW
        self.shop = Shop(SHOP)
        self.keeper = PosteriorKeeper(self.engine, settings, clock=lambda: self.now)

    @property
    def engine(self) -> Engine:
        return self.shop.engine

    def decide(self) -> DecisionRecord:
        self.shop.hot_state.contacts.clear()  # nothing goes on from the decision before
        return self.shop.decide()

    def keep(self, *records: DecisionRecord, answered: int = 0, kind: str = "accept") -> None:
        """In the ledger, the first so many with an outcome."""

        async def write(ledger: Ledger) -> None:
            for record in records:
                await ledger.append_decision(record, digest=record.decision_id)
            told = [
                outcome(f"{record.decision_id}-{kind}", decision_id=record.decision_id, type=kind)
                for record in records[:answered]
            ]
            await ledger.append_outcomes([(each, each.outcome_id) for each in told])

        with closing(Ledger(self.settings)) as ledger:
            asyncio.run(write(ledger))

    def order(self, *customers: str) -> None:
        """Events that tell an order of each; they name no decision."""
        told = [
            event(
                f"till/{customer}",
                customer_id=customer,
                occurred_at=NOW + timedelta(minutes=1),
                properties={"product_id": "gold"},
            )
            for customer in customers
        ]

        async def write(ledger: Ledger) -> None:
            await ledger.append_events([(each, each.event_id) for each in told])

        with closing(Ledger(self.settings)) as ledger:
            asyncio.run(write(ledger))

    def later(self, by: timedelta) -> None:
        self.now += by
        self.keeper.check()


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    opened = Service(settings)
    yield opened
    opened.keeper.stop()


def copies(record: DecisionRecord, count: int, *, tag: str = "copy") -> list[DecisionRecord]:
    return [msgspec.structs.replace(record, decision_id=f"{tag}-{n}") for n in range(count)]


def test_what_customers_do_changes_the_next_decisions_and_the_record_says_so(service: Service) -> None:
    first = service.decide()
    assert (first.slots[0].action_id, first.posterior, first.candidates[0].score) == ("card", None, None)
    service.keep(*copies(first, 200), answered=2)  # a hundredth accept; the model said 0.3
    service.later(timedelta(hours=2))
    then = service.decide()
    assert then.slots[0].action_id == "loan"
    assert then.posterior is not None
    [card, _] = then.candidates
    assert card.score == pytest.approx(0.3)
    assert card.shift < -1.0
    assert card.propensity is not None
    assert card.propensity < 0.1


def test_a_corrected_decision_replays_to_the_bit(service: Service) -> None:
    service.keep(*copies(service.decide(), 50), answered=1)
    service.later(timedelta(hours=2))
    record = service.decide()
    assert record.posterior is not None
    assert replay(record, SHOP, key=b"0123456789abcdef").identical


def test_without_anything_learnt_scores_stand_and_doubt_is_the_priors(service: Service) -> None:
    record = service.decide()
    assert [(c.shift, c.sd, c.score) for c in record.candidates] == [(0.0, 1.0, None)] * 2


def test_another_replica_takes_up_what_one_has_counted(service: Service, settings: Settings) -> None:
    service.keep(*copies(service.decide(), 50), answered=1)
    service.later(timedelta(hours=2))
    other = Service(settings)
    other.now = service.now
    other.keeper.check()
    assert other.decide().posterior == service.decide().posterior is not None
    other.keeper.stop()


def test_a_replica_takes_over_from_one_that_died_and_counts_nothing_twice(service: Service, settings: Settings) -> None:
    first = service.decide()
    service.keep(*copies(first, 50), answered=5)
    service.later(timedelta(hours=2))
    open_posterior(settings).lease("nobody", duration=timedelta(0))
    other = Service(settings)
    other.keeper._holder = service.keeper._holder  # as if the first one's lease had run out
    service.keep(*copies(first, 30, tag="more"), answered=3)
    other.now = service.now
    other.later(FIT_EVERY)
    taken = other.decide().posterior
    open_posterior(settings).forget()
    anew = Service(settings)
    anew.keeper._holder = service.keeper._holder
    anew.now = other.now
    anew.keeper.check()
    assert anew.decide().posterior == taken is not None
    for each in (other, anew):
        each.keeper.stop()


def test_of_another_bundle_nothing_is_taken_up(service: Service) -> None:
    service.keep(*copies(service.decide(), 50), answered=1)
    service.later(timedelta(hours=2))
    service.shop.scorer.sha256 = "2" * 64
    service.engine.scorer = service.shop.scorer
    assert service.decide().posterior is None
    service.later(COUNT_EVERY)
    assert all(candidate.shift == 0.0 for candidate in service.decide().candidates)


def test_what_was_decided_before_the_models_cut_off_is_not_counted(service: Service) -> None:
    before = [msgspec.structs.replace(each, decided_at=AS_OF) for each in copies(service.decide(), 50)]
    service.keep(*before, answered=50)
    service.later(timedelta(hours=2))
    assert service.decide().candidates[0].shift == 0.0


def test_a_late_outcome_counts_for_its_decision(service: Service) -> None:
    decided = copies(service.decide(), 50)
    service.keep(*decided)
    service.later(timedelta(hours=2))
    low = service.decide().candidates[0].shift
    service.keep(*decided, answered=40)  # the decisions stand already, what was told of them is new
    service.later(FIT_EVERY)
    assert service.decide().candidates[0].shift > low + 3.0


def test_orders_that_name_no_decision_count_where_purchases_are_rewarded(service: Service) -> None:
    decided = [
        msgspec.structs.replace(each, customer_id=f"c-{number}")
        for number, each in enumerate(copies(service.decide(), 50))
    ]
    service.keep(*decided)
    service.later(timedelta(hours=2))
    low = service.decide().candidates[0].shift
    service.order(*(record.customer_id for record in decided[:40]))
    service.later(COUNT_EVERY)
    assert service.decide().candidates[0].shift > low + 3.0
