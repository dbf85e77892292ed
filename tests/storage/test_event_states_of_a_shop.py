"""A real shop's customers through both stores: what decisions would have read is what a replay of history gives."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from decisioning.events import EventRecord
from decisioning.profile import Subject
from decisioning.state_change import StateChange
from storage.hot_state.state_replay import open_states
from storage.hot_state.states import Replay
from storage.settings import Settings
from tests.storage.hot_stores import Store, settings_for
from tests.training.test_event_features import DECLARED, FILE, assert_identical, points_of, real
from training.event_history import event_frame, replayed

# With the last return, so that nothing of a past year ends by today's clock.
FEATURES = EventFeatures([*DECLARED, EventFeature(id="since_return", event="return", compute="recency")])
DIGEST = FEATURES.states.digest
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture(scope="module")
def events() -> list[EventRecord]:
    """Every line that 25 customers bought or gave back."""
    sold = pd.read_csv(FILE, dtype={"CustomerID": str, "StockCode": str}, parse_dates=["InvoiceDate"])
    sold = sold[sold["CustomerID"].isin(sorted(sold["CustomerID"].dropna().unique())[100:2600:100])]
    return [
        EventRecord(
            event_id=f"till/{row}", source="till", type="track", name="purchase" if quantity > 0 else "return",
            customer_id=who, occurred_at=at.tz_localize("UTC").to_pydatetime(),
            received_at=at.tz_localize("UTC").to_pydatetime(),
            properties={"value": quantity * price, "product": product, "country": country},
        )
        for row, who, quantity, price, product, country, at in zip(
            sold.index, sold["CustomerID"], sold["Quantity"], sold["UnitPrice"], sold["StockCode"], sold["Country"],
            sold["InvoiceDate"], strict=True,
        )
    ]  # fmt: skip


@real
def test_a_year_out_of_order_told_twice_and_restarted_is_its_replay(
    chosen: Settings, events: list[EventRecord]
) -> None:
    rng, store = np.random.default_rng(3), Store(chosen)
    open_states(chosen).note_replayed(DIGEST, Replay(0, complete=True), now=events[0].occurred_at)
    days: dict[datetime, list[EventRecord]] = {}
    for each in events:
        days.setdefault(each.occurred_at.replace(hour=0, minute=0) + DAY, []).append(each)
    asked: list[tuple[str, datetime]] = []
    read: list[dict[str, Any]] = []
    for number, (midnight, told) in enumerate(sorted(days.items())):
        twice = [*told, *(told[place] for place in rng.integers(0, len(told), len(told) // 5))]
        for part in np.array_split(rng.permutation(len(twice)), 3):
            store.run(store.hot.note([], StateChange(FEATURES, [twice[place] for place in part], now=midnight)))
        if number % 25 == 0:
            store.close()
            store = Store(chosen)
        for who in {each.unit for each in told}:
            at = midnight + timedelta(minutes=int(rng.integers(0, 360)))
            kept = store.run(store.hot.read(Subject(who), now=at, states=DIGEST)).states
            found = FEATURES.of_person(kept, now=at)
            assert found is not None
            asked.append((who, at))
            read.append(found)
    store.close()
    assert len(asked) > 100
    expected = replayed(FEATURES, event_frame(events, FEATURES), points_of(asked), known_by="occurred")
    kinds = {feature.name: object if feature.kind == "text" else np.float64 for feature in FEATURES.features}
    assert_identical(expected, pd.DataFrame(read).astype(kinds))
