from datetime import timedelta

import numpy as np
import pytest

from decisioning.bundle import ModelFeature
from decisioning.contact_history import HISTORY_FEATURES, ContactHistory
from decisioning.encoding import RowEncoder
from decisioning.errors import DataError
from decisioning.profile import Contact
from tests.builders import action
from tests.training.tiny_shop import ACTIONS, tiny_catalog, tiny_examples
from training.model_input import MINIMUM_COUNT, MOST_CONTEXT_FEATURES, encode_pairs, encode_shown, learn_features


def by_name(features: tuple[ModelFeature, ...]) -> dict[str, ModelFeature]:
    return {feature.name: feature for feature in features}


def column_of(name: str, features: tuple[ModelFeature, ...], rows: np.ndarray) -> np.ndarray:
    return rows[:, [feature.name for feature in features].index(name)]


def test_sources_and_kinds_are_inferred() -> None:
    features = learn_features(tiny_examples(300), tiny_catalog())
    assert {(feature.name, feature.source, feature.kind) for feature in features} == {
        ("age", "customer", "number"),
        ("colour", "customer", "category"),
        ("weather", "context", "category"),
        ("placement", "context", "category"),
        ("channel", "context", "category"),
        ("slot", "context", "number"),
        ("fits", "action", "category"),
        ("price", "action", "number"),
        ("action_id", "action", "category"),
        ("group", "action", "category"),
        ("goal", "action", "category"),
        ("value", "action", "number"),
        *((name, "history", "number") for name in HISTORY_FEATURES),
    }


def test_lists_and_names_of_somebody_are_for_rules_and_not_for_the_model() -> None:
    n = 300
    examples = tiny_examples(
        n,
        **{
            "customer.responsibilities": [("it",) if row % 2 else () for row in range(n)],
            "customer.account_id": ["a-1"] * n,
            "customer.reports_to": ["c-1"] * n,
            "customer.referred_by": [None] * n,
            "customer.buying_role": ["user"] * n,
        },
    )
    learnt = [feature.name for feature in learn_features(examples, tiny_catalog()) if feature.source == "customer"]
    assert learnt == ["age", "colour", "buying_role"]


def test_a_rare_level_counts_as_other() -> None:
    colours = ["red"] * (300 - MINIMUM_COUNT + 1) + ["blue"] * (MINIMUM_COUNT - 1)
    examples = tiny_examples(300, **{"customer.colour": colours})
    features = learn_features(examples, tiny_catalog())
    assert by_name(features)["colour"].categories == ("red",)
    assert set(column_of("colour", features, encode_shown(features, examples, tiny_catalog()))) == {0.0, 1.0}


def test_training_and_service_see_the_same_numbers_in_the_same_order() -> None:
    examples, catalog = tiny_examples(300), tiny_catalog()
    features = learn_features(examples.iloc[:200], catalog)
    encoded = encode_shown(features, examples, catalog)
    for row, example in examples.iloc[180:260].iterrows():
        shown = catalog.actions[example["action_id"]]
        shared = {
            "age": example["customer.age"],
            "colour": example["customer.colour"],
            "weather": example["context"]["weather"],
            "placement": example["placement"],
            "channel": example["channel"],
            "slot": 1,
        }
        history = ContactHistory(example["contacts"], now=example["decided_at"].to_pydatetime())
        served = RowEncoder(features).rows(shared, [shown], history)
        np.testing.assert_array_equal(served[0], encoded[row])


def test_history_of_what_was_not_shown_is_that_actions_own() -> None:
    examples, catalog = tiny_examples(300), tiny_catalog()
    at = examples["decided_at"].iloc[0].to_pydatetime()
    examples.at[0, "contacts"] = (Contact("umbrella", "cards", "web", at - timedelta(days=1)),) * 2
    features = learn_features(examples, catalog)
    encoded = encode_pairs(features, examples, catalog, np.zeros(3, dtype=int), ACTIONS, np.arange(3))
    assert column_of("contacts_7d", features, encoded).tolist() == [2.0, 2.0, 2.0]
    assert column_of("action_contacts_7d", features, encoded).tolist() == [2.0, 0.0, 0.0]
    assert column_of("group_contacts_7d", features, encoded).tolist() == [2.0, 0.0, 0.0]


def test_what_is_missing_or_of_another_kind_is_not_a_number() -> None:
    examples = tiny_examples(300)
    examples["context"] = [{"weather": value} for value in ("rain", None, 7.5)] + [{"weather": "rain"}] * 297
    features = learn_features(examples, tiny_catalog())
    weather = column_of("weather", features, encode_shown(features, examples, tiny_catalog()))
    assert weather[0] == 0.0
    assert np.isnan(weather[1:3]).all()


def test_a_feature_that_the_rows_lack_is_missing() -> None:
    examples = tiny_examples(300)
    features = learn_features(examples, tiny_catalog())
    without = encode_shown(features, examples.drop(columns="customer.age"), tiny_catalog())
    assert np.isnan(column_of("age", features, without)).all()


def test_one_name_for_two_features_is_refused() -> None:
    twice = tiny_catalog(action("hat", attributes={"age": 3.0}))
    with pytest.raises(DataError, match="'age' is a feature of customer and action"):
        learn_features(tiny_examples(300), twice)


TAKEN = ("value", "group", "placement", "channel", "slot", "contacts_7d", "fits", "action_id", "age")


def test_a_name_that_is_taken_is_no_context_feature() -> None:
    examples = tiny_examples(300)
    plain = learn_features(examples, tiny_catalog())
    examples["context"] = [{"weather": "rain" if n % 2 else "sun", **dict.fromkeys(TAKEN, "x")} for n in range(300)]
    assert learn_features(examples, tiny_catalog()) == plain
    np.testing.assert_array_equal(
        column_of("value", plain, encode_shown(plain, examples, tiny_catalog())),
        [tiny_catalog().actions[name].value for name in examples["action_id"]],
    )


def test_a_name_that_few_requests_sent_is_no_feature() -> None:
    def names(sent: int) -> set[str]:
        examples = tiny_examples(300)
        examples["context"] = [{"rare": 1.0}] * sent + [{"rare": None}] * (300 - sent)
        return set(by_name(learn_features(examples, tiny_catalog())))

    assert "rare" not in names(2)
    assert "rare" in names(3)


def test_of_many_names_the_most_frequent_are_features() -> None:
    examples = tiny_examples(300)
    sent = [[f"k-{k:02d}" for k in range(60) if n >= k] for n in range(300)]
    examples["context"] = [dict.fromkeys(names, 1.0) for names in sent]
    learnt = [f.name for f in learn_features(examples, tiny_catalog()) if f.name.startswith("k-")]
    assert learnt == [f"k-{k:02d}" for k in range(MOST_CONTEXT_FEATURES)]


def test_ten_thousand_names_build_no_columns() -> None:
    examples = tiny_examples(6000)
    examples["context"] = [{"device": "mobile", **{f"k-{(n + m) % 10_000}": m for m in range(2)}} for n in range(6000)]
    features = learn_features(examples, tiny_catalog())
    assert "device" in by_name(features)
    assert not [feature.name for feature in features if feature.name.startswith("k-")]


def test_an_action_that_the_catalogue_lost_is_named() -> None:
    examples = tiny_examples(300, action_id="gone")
    features = learn_features(examples, tiny_catalog())
    with pytest.raises(DataError, match="gone"):
        encode_shown(features, examples, tiny_catalog())
