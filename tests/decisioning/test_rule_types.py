"""A rule is refused when a name or a type is wrong, before any customer meets it."""

import pytest

from decisioning.content import FeatureTypes
from decisioning.rule_types import RuleTypes
from decisioning.rules import Rule, RuleScope
from tests.builders import NOW

FEATURES = FeatureTypes(
    customer={"age": "number", "spend": "number", "city": "text", "vip": "truth", "sites": "texts"},
    account={"employees": "number", "industry": "text"},
)
TYPES = RuleTypes(FEATURES)


@pytest.mark.parametrize(
    ("source", "checked"),
    [
        ("customer.age > 30", "customer.age > 30.0"),
        ("30 < customer.age", "30.0 < customer.age"),
        ("customer.age > 30.0", "customer.age > 30.0"),
        ("customer.age * 2 + 1 > customer.spend / 3", "customer.age * 2.0 + 1.0 > customer.spend / 3.0"),
        ("customer.age in [30, 40]", "customer.age in [30.0, 40.0]"),
        ("size(customer.sites) > 2", "size(customer.sites) > 2"),
        ("customer.age > 30 && size(customer.sites) > 2", "customer.age > 30.0 && size(customer.sites) > 2"),
        ("size(customer.sites) > 2 && 30 < customer.age", "size(customer.sites) > 2 && 30.0 < customer.age"),
        ("now.getHours() > 8 && customer.age > 8", "now.getHours() > 8 && customer.age > 8.0"),
        ("customer.city == '30' && customer.age > 3", "customer.city == '30' && customer.age > 3.0"),
        ("context.items > 3", "context.items > 3"),
        ("customer.vip && account.employees > 9", "customer.vip && account.employees > 9.0"),
        ("customer.age == null || customer.city != null", "customer.age == null || customer.city != null"),
        ("'a' in customer.sites", "'a' in customer.sites"),
        ("context.anything", "context.anything"),
        ("customer.age   >\n  30 // years", "customer.age > 30.0"),
    ],
)
def test_a_rule_that_fits_is_the_rule_that_runs(source: str, checked: str) -> None:
    assert TYPES.checked(source) == checked
    assert Rule(checked).source == checked


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("customer.agee > 30", "names customer.agee, and there is no such feature, must be one like customer.age"),
        ("account.staff > 1.0", "names account.staff, and there is no such feature"),
        ("visitor.age > 1.0", "names visitor.age; a rule may use customer, account"),
        ("customer.city > 3", "does not fit: found no matching overload for '_>_' applied to '(text, whole number)'"),
        ("customer.age == 'x'", "'(number, text)'"),
        ("customer.vip == 'yes'", "'(truth, text)'"),
        ("customer.sites == null", "does not fit"),
        ("customer.age", "gives a number, must give true or false"),
        ("size(customer.sites)", "gives a whole number, must give true or false"),
        ("customer.city", "gives a text, must give true or false"),
        ("null", "gives null, must give true or false"),
        ("has(customer.age)", "every feature is there, and null where nothing is known; write customer.age != null"),
        ("has( account . industry ) || true", "write account.industry != null"),
        ("customer.age >", "is not a CEL expression"),
        ("customer.age > 3 && customer.agee > 4", "names customer.agee"),
        (
            "size(customer.sites) > customer.age",
            "features are fractions, write 3.0, not 3, and double(...) around what is whole",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_in_the_catalogues_words(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as raised:
        TYPES.checked(source)
    assert said in str(raised.value)
    assert "wrapper" not in str(raised.value)


def test_every_name_that_is_wrong_is_told() -> None:
    with pytest.raises(ValueError, match=r"customer\.x, .*; names customer\.y, "):
        TYPES.checked("customer.x > 1.0 || customer.y > 1.0")


@pytest.mark.parametrize(
    "source", ["customer.age * 2", "3", "size(customer.sites)", "customer.vip ? 1.0 : 0.0", "context.x"]
)
def test_a_value_may_be_any_number(source: str) -> None:
    assert TYPES.checked(source, gives="number")


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="gives true or false, must give a number"):
        TYPES.checked("customer.vip", gives="number")


def test_without_known_features_any_name_goes() -> None:
    assert (
        RuleTypes(None).checked("customer.anything > 3 && has(customer.x)")
        == "customer.anything > 3 && has(customer.x)"
    )


def test_arithmetic_with_a_whole_number_runs() -> None:
    scope = RuleScope(customer={"age": 41.0}, now=NOW)

    assert Rule(TYPES.checked("customer.age * 2 > 80")).holds(scope)
