import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.bundle import ModelFeature
from decisioning.contact_history import ContactHistory
from decisioning.encoding import RowEncoder, encode_column, encode_value
from tests.builders import NOW, action, contact

AGE = ModelFeature("age", "customer", "number")
CITY = ModelFeature("city", "customer", "category", ("bonn", "ulm"))
SINCE = ModelFeature("since", "customer", "time", base=datetime(2026, 1, 1, tzinfo=UTC))


def test_levels_have_codes_others_share_one_and_missing_is_nan() -> None:
    assert [encode_value(CITY, city) for city in ("bonn", "ulm", "rom")] == [0.0, 1.0, 2.0]
    assert math.isnan(encode_value(CITY, None))


def test_time_is_seconds_since_the_base_without_loss() -> None:
    late = datetime(2026, 11, 21, 18, 0, 1, tzinfo=UTC)
    assert encode_column(SINCE, [late, late.isoformat()]).tolist() == [np.float32(28_058_401)] * 2


@pytest.mark.parametrize(("feature", "value"), [(AGE, "old"), (CITY, 1.5), (SINCE, 3.0)])
def test_a_value_of_another_kind_is_a_type_error(feature: ModelFeature, value: Any) -> None:
    with pytest.raises(TypeError, match=feature.name):
        encode_value(feature, value)


@given(st.lists(st.none() | st.floats(width=32) | st.integers(-1000, 1000) | st.booleans(), min_size=1))
def test_a_column_and_single_values_are_the_same_numbers(values: list[Any]) -> None:
    one_by_one = np.array([encode_value(AGE, value) for value in values], dtype=np.float32)
    np.testing.assert_array_equal(encode_column(AGE, values), one_by_one)


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.bool_])
def test_an_array_is_the_same_numbers_as_its_values(kind: type) -> None:
    values = np.array([0, 1, 7], dtype=kind)
    np.testing.assert_array_equal(encode_column(AGE, values), encode_column(AGE, values.tolist()))


@given(st.lists(st.none() | st.sampled_from(["bonn", "ulm", "rom", ""]), min_size=1))
def test_a_column_of_categories_is_the_same_numbers(values: list[Any]) -> None:
    one_by_one = np.array([encode_value(CITY, value) for value in values], dtype=np.float32)
    np.testing.assert_array_equal(encode_column(CITY, values), one_by_one)


def test_rows_share_what_is_the_customer_s_and_differ_in_what_is_the_action_s() -> None:
    features = (
        AGE,
        ModelFeature("margin", "action", "number"),
        ModelFeature("action_contacts_7d", "history", "number"),
    )
    card, loan = action("card", attributes={"margin": 1.0}), action("loan")
    history = ContactHistory([contact("card"), contact("card")], now=NOW)
    rows = RowEncoder(features).rows({"age": 41}, [card, loan], history)
    np.testing.assert_array_equal(rows, np.array([[41, 1, 2], [41, np.nan, 0]], dtype=np.float32))


def test_an_action_whose_entry_changed_is_encoded_anew() -> None:
    rows = RowEncoder((ModelFeature("margin", "action", "number"),))
    history = ContactHistory([], now=NOW)
    for margin in (1.0, 2.0):
        assert rows.rows({}, [action("card", attributes={"margin": margin})], history).tolist() == [[margin]]


def test_a_context_value_of_another_kind_is_refused_and_a_foreign_one_is_not() -> None:
    rows = RowEncoder((AGE, ModelFeature("slot", "context", "number")))
    rows.check({"age": 41, "weather": "rain", "slot": "first"})
    with pytest.raises(TypeError, match="'age' is 'old', must be a number"):
        rows.check({"age": "old"})
