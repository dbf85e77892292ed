from typing import Any

import pytest

from decisioning.rules import Rule, RuleFailure, RuleScope
from tests.builders import NOW, action


def scope(**customer: Any) -> RuleScope:
    return RuleScope(customer=customer, context={"device": "mobile"}, now=NOW)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("customer.age >= 18", True),
        ("customer.age >= 18.0 && context.device == 'mobile'", True),
        ("customer.city in ['ulm', 'bonn']", True),
        ("has(customer.shoe_size)", False),
        ("customer.income == null || customer.income > 1000.0", True),
        ("customer.income != null && customer.income > 1000.0", False),
        ("now > timestamp('2026-01-01T00:00:00Z')", True),
        ("customer.city.startsWith('u')", True),
    ],
)
def test_a_rule_sees_features_context_and_time(source: str, expected: bool) -> None:
    assert Rule(source).holds(scope(age=41.0, city="ulm", income=None)) is expected


@pytest.mark.parametrize(
    "source",
    [
        "customer.income > 1000.0",
        "!(customer.income > 1000.0)",
        "customer.shoe_size > 40",
        "customer.city > 3",
        "context.page == 'home'",
        "customer.city",
        "1",
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_neither_true_nor_false(source: str) -> None:
    with pytest.raises(RuleFailure, match=r"\S"):
        Rule(source).holds(scope(city="ulm", income=None))


def test_a_failure_is_repeated_for_the_next_action_with_the_same_rule() -> None:
    seen = scope()
    for _ in range(2):
        with pytest.raises(RuleFailure):
            Rule("customer.age > 3").holds(seen)


def test_a_rule_about_the_action_is_evaluated_for_each() -> None:
    rule, seen = Rule("action.margin > 2.0"), scope()
    actions = [action(attributes={"margin": margin}) for margin in (1.0, 3.0)]
    assert [rule.holds(seen, each) for each in actions] == [False, True]


@pytest.mark.parametrize("source", ["", "a >", "(((", "x" * 2001, "visitor.age > 1", "customer.tags.all(t, t != 'x')"])
def test_what_is_no_rule_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Rule(source)
