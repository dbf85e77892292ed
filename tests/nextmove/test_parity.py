"""The numbers that a model learns from and those that it scores are the same, in the same order."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from decisioning.bundle import Scored
from decisioning.encoding import encode_value
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from decisioning.trial import is_held_out
from nextmove.sandbox import Sandbox
from serving.adapters.feast_features import FeastFeatures
from serving.ports import Scorer
from storage.feature_store import open_feature_store
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains.simulated import Simulated
from training.examples import ledger_examples
from training.features import feature_names, historical_features
from training.model_input import encode_shown

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FOR_RULES_ONLY = {"account_id", "reports_to", "referred_by", "responsibilities"}


class Recording:
    """A scorer that keeps what it was given."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.manifest, self.sha256 = scorer.manifest, scorer.sha256
        self.rows: list[NDArray[np.float32]] = []

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        self.rows.append(rows.copy())
        return self._scorer.score(rows, with_members=with_members)


@pytest.fixture
def sandbox(shop_settings: Settings, tmp_path: Path) -> Iterator[Sandbox]:
    opened = Sandbox(shop_settings, tmp_path / "sandbox")
    yield opened
    opened.close()


def scored(sandbox: Sandbox, world: Simulated, count: int) -> list[str]:
    """The first customers who are not in the control, for which nothing is scored."""
    holdout = sandbox.catalog.content.holdout
    return [customer for customer in world.world.customers.ids if not is_held_out(holdout, customer)][:count]


def known(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA else value


def test_online_offline_and_what_the_scorer_gets_are_the_same_numbers_in_the_same_order(
    sandbox: Sandbox, shop_settings: Settings, small_world: Simulated
) -> None:
    customers = scored(sandbox, small_world, 40)
    names = feature_names(shop_settings, "simulated")
    entities = pd.DataFrame({"row_id": customers, "customer_id": customers, "event_timestamp": [NOW] * len(customers)})
    offline = historical_features(shop_settings, "simulated", entities).set_index("customer_id")
    online = FeastFeatures(open_feature_store(shop_settings), "simulated")
    assert sandbox.engine.scorer is not None
    recording = sandbox.engine.scorer = Recording(sandbox.engine.scorer)
    columns = {feature.name: place for place, feature in enumerate(recording.manifest.features)}
    names = [name for name in names if name not in FOR_RULES_ONLY]
    assert [feature.name for feature in recording.manifest.features if feature.source == "customer"] == names

    missing = 0
    for customer in customers:
        stored = asyncio.run(online.read(customer))
        assert stored is not None
        request = DecisionRequest(customer_id=customer, placement="product_page")
        record = asyncio.run(sandbox.engine.decide(request, now=NOW))
        for name in names:
            feature = recording.manifest.features[columns[name]]
            values = [known(offline.loc[customer, name]), known(stored.values[name]), record.features[name]]
            encoded = np.array([encode_value(feature, value) for value in values], dtype=np.float32)
            np.testing.assert_array_equal(encoded, np.repeat(recording.rows[-1][0, columns[name]], 3), err_msg=name)
            missing += values[0] is None
    assert missing > 20


def sdk(settings: Settings, service: str, **entity: str) -> dict[str, Any]:
    """What Feast's own call gives for one entity; a list that is missing is empty, as rules know it."""
    store = open_feature_store(settings)
    answer = store.get_online_features(store.get_feature_service(service), entity_rows=[entity]).to_dict()
    values = {name: column[0] for name, column in answer.items() if name not in entity}
    lists = {"responsibilities", "sites"} & set(values)
    return values | {name: tuple(values[name] or ()) for name in lists}


def test_features_of_customer_and_account_are_those_of_feast_s_own_call(
    shop_settings: Settings, small_world: Simulated
) -> None:
    features = FeastFeatures(open_feature_store(shop_settings), "simulated")
    accounts = small_world.world.accounts
    of_an_account = accounts.contacts["customer_id"].tolist()[:20]
    assert len(of_an_account) == 20
    consumers = [c for c in small_world.world.customers.ids if c not in set(accounts.contacts["customer_id"])][:20]
    for customer in (*of_an_account, *consumers):
        stored = asyncio.run(features.read(customer))
        assert stored is not None
        assert stored.values == sdk(shop_settings, "simulated", customer_id=customer)
        assert set(stored.values) == features.names
        assert stored.account_id == stored.values["account_id"]
        wanted = {} if stored.account_id is None else sdk(
            shop_settings, "simulated_accounts", account_id=stored.account_id
        )  # fmt: skip
        assert stored.account == wanted
        assert (customer in of_an_account) == bool(wanted)


def test_the_caller_s_account_beats_the_stored_one(shop_settings: Settings, small_world: Simulated) -> None:
    features = FeastFeatures(open_feature_store(shop_settings), "simulated")
    contact = small_world.world.accounts.contacts.iloc[0]
    other = next(a for a in small_world.world.accounts.accounts["account_id"] if a != contact.account_id)
    stored = asyncio.run(features.read(contact.customer_id, account_id=other))
    assert stored is not None
    assert stored.account_id == other
    assert stored.account == sdk(shop_settings, "simulated_accounts", account_id=other)


def test_of_an_account_that_nobody_knows_there_are_no_features(shop_settings: Settings, small_world: Simulated) -> None:
    features = FeastFeatures(open_feature_store(shop_settings), "simulated")
    stored = asyncio.run(features.read(small_world.world.customers.ids[0], account_id="a-unknown"))
    assert stored is not None
    assert (stored.account_id, stored.account) == ("a-unknown", {})


def test_a_customer_whom_nobody_knows_has_no_features_whatever_the_account(shop_settings: Settings) -> None:
    features = FeastFeatures(open_feature_store(shop_settings), "simulated")
    assert asyncio.run(features.read("nobody", account_id="a-0001")) is None


def test_a_decision_is_learnt_from_with_the_numbers_that_were_scored(sandbox: Sandbox, small_world: Simulated) -> None:
    """History and request values included: through engine, ledger and examples, back to the model's input."""
    assert sandbox.engine.scorer is not None
    recording = sandbox.engine.scorer = Recording(sandbox.engine.scorer)
    given: dict[str, NDArray[np.float32]] = {}
    for number, customer in enumerate(scored(sandbox, small_world, 60)):
        for visit in range(2):
            record = decide_and_see(sandbox, customer, NOW + timedelta(hours=number + visit), number)
            [shown] = record.slots
            place = [candidate.action_id for candidate in record.candidates].index(shown.action_id)
            given[record.decision_id] = recording.rows[-1][place]

    reader = LedgerReader(sandbox.settings)
    examples = ledger_examples(reader, sandbox.catalog, now=NOW + timedelta(days=60))
    reader.close()
    assert len(examples) == len(given) == 120
    learnt = encode_shown(recording.manifest.features, examples, sandbox.catalog)
    for row, row_id in zip(learnt, examples["row_id"], strict=True):
        np.testing.assert_array_equal(row, given[row_id.partition("/")[0]])
    names = [feature.name for feature in recording.manifest.features]
    assert learnt[:, names.index("contacts_7d")].max() >= 1
    assert (learnt[:, names.index("age")] == 33).sum() >= 40


def decide_and_see(sandbox: Sandbox, customer: str, now: datetime, number: int) -> DecisionRecord:
    context: dict[str, Any] = {"device": "mobile", "page": "product"}
    if number % 3:
        context["age"] = 33.0
    request = DecisionRequest(customer_id=customer, placement="product_page", context=context, exclude=("no_action",))
    record = asyncio.run(sandbox.engine.decide(request, now=now))
    seen = OutcomeReport(decision_id=record.decision_id, type="impression")
    asyncio.run(sandbox.engine.record_outcomes([seen], now=now))
    return record
