"""Where a direct rule gives an answer, CEL gives the same; this is the one promise that it makes."""

import math
from datetime import UTC, datetime
from typing import Any

import cel
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decisioning.direct_rules import EXACT, LEFT_TO_CEL, MAX_DEPTH, Screened, direct, screen
from decisioning.rules import Rule, RuleFailure, RuleScope

NOW = datetime(2026, 3, 2, tzinfo=UTC)
NAMES = ("age", "orders", "city", "segment", "vip", "lists", "gone")
SELECTED = (*(f"customer.{name}" for name in NAMES), "account.size", "context.device", "context.items")
VALUES: tuple[Any, ...] = (
    None, True, False, 0.0, -0.0, 1.0, 0.1, 0.2, 41.0, 1e308, math.nan, math.inf, -math.inf, 0, 1, 41, EXACT, EXACT + 1,
    -(2**63), "", "ulm", "gold", "Ü", (), ("ulm",), ("gold", "ulm"),
)  # fmt: skip
LITERALS = ("0.0", "1.0", "0.1", "41.0", "1e308", "-1.0", "0", "1", "41", "-1", "9007199254740993", "'ulm'", '"gold"',
            "''", "true", "false", "null")  # fmt: skip


def of_two(signs: tuple[str, ...], parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(parts, st.sampled_from(signs), parts).map(" ".join)


terms = st.sampled_from(SELECTED * 2 + LITERALS)
sums = st.one_of(terms, of_two(("+", "-", "*", "/"), terms), of_two(("+", "*"), of_two(("-", "*"), terms)))
relations = st.one_of(
    of_two(("<", "<=", ">", ">=", "==", "!="), sums),
    terms.map(lambda term: f"{term} in ['ulm', 'gold']"),
    st.sampled_from(SELECTED).map(lambda selected: f"'ulm' in {selected}"),
    st.sampled_from(SELECTED).map(lambda selected: f"has({selected})"),
    st.sampled_from(SELECTED).map(lambda selected: f"{selected} != null"),
    terms,
)
rules = st.recursive(
    relations,
    lambda rule: st.one_of(
        of_two(("&&", "||"), rule),
        rule.map(lambda one: f"({one})"),
        rule.map(lambda one: f"!({one})"),
        of_two(("==",), rule),
    ),
    max_leaves=6,
)
holdings = st.fixed_dictionaries(
    {}, optional={name.partition(".")[2] + "@" + name.partition(".")[0]: st.sampled_from(VALUES) for name in SELECTED}
)


def scopes(held: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By root; a feature that is not known is null."""
    found: dict[str, dict[str, Any]] = {"customer": dict.fromkeys(NAMES), "account": {"size": None}, "context": {}}
    for name, value in held.items():
        found[name.partition("@")[2]][name.partition("@")[0]] = value
    return found


def both(source: str, held: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    """What the direct rule says and what CEL says; an ellipsis where one does not."""
    plain = direct(source)
    try:
        said = ... if plain is None else plain(**held)
    except LEFT_TO_CEL:
        said = ...
    try:
        judged = cel.compile(source).execute(cel.Context(variables={**held, "now": NOW}))
    except Exception:
        judged = ...
    return said, judged


def same(said: Any, judged: Any) -> bool:
    if isinstance(said, bool) or isinstance(judged, bool):
        return said is judged
    return said == judged or (said != said and judged != judged)


@settings(derandomize=True, deadline=None, max_examples=4_000)
@given(source=rules, held=holdings)
@example(source="customer.age + 1.0 > 2.0", held={"age@customer": math.inf})
@example(source="customer.age - customer.orders < 1.0", held={"age@customer": math.inf, "orders@customer": math.inf})
@example(source="true || customer.age > 1.0", held={})
@example(source="customer.age > 1.0 || true", held={})
def test_what_a_direct_rule_says_cel_says(source: str, held: dict[str, Any]) -> None:
    said, judged = both(source, scopes(held))
    assert said is ... or same(said, judged), (source, said, judged)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("customer.age > 30.0", True),
        ("customer.age > 30", True),
        ("30.0 < customer.age && customer.city == 'ulm'", True),
        ("!(customer.age > 30.0) || customer.vip", True),
        ("!customer.vip", False),
        ("customer.vip == true", True),
        ("customer.vip", True),
        ("customer.gone != null && customer.gone > 1.0", False),
        ("customer.gone == null", True),
        ("customer.gone == 'x'", False),
        ("customer.city in ['ulm', 'bonn']", True),
        ("'gold' in customer.tags", True),
        ("has(context.device) && context.device != 'tv'", True),
        ("has(context.nothing)", False),
        ("customer.age * 2.0 - 1.0 >= account.size / 4.0", True),
        ("customer.age * 0.5", 20.5),
        ("-1.5 < customer.age", True),
        ("(customer.age)", 41.0),
        ("true", True),
    ],
)
def test_plain_rules_are_direct(source: str, expected: Any) -> None:
    held = {
        "customer": {"age": 41.0, "city": "ulm", "vip": True, "gone": None, "tags": ("gold",)},
        "account": {"size": 8.0},
        "context": {"device": "mobile"},
    }
    said, judged = both(source, held)
    assert same(said, expected)
    assert same(judged, expected)


@settings(derandomize=True, deadline=None, max_examples=600)
@given(asked=st.lists(rules, max_size=3), switches=st.lists(rules, max_size=3), held=holdings)
def test_screened_rules_say_what_each_says_alone(asked: list[str], switches: list[str], held: dict[str, Any]) -> None:
    scope = scopes(held)
    refusals = [(source, f"refused by {place}") for place, source in enumerate(asked)]
    outcomes = [f"kept by {which}" for which in range(1 << len(switches))]
    always = Screened([], [], ["always"])
    assert screen([always, Screened(refusals, switches, outcomes)])(**scope) == [
        "always",
        alone(asked, switches, scope),
    ]


def test_the_same_rules_with_other_outcomes_give_the_others() -> None:
    rule, held = "customer.age > 18.0", ({"age": 41.0}, {}, {})
    first, second = (screen([Screened([(rule, "refused")], [], [outcome])]) for outcome in ("one", "other"))
    assert (first(*held), second(*held), first(*held)) == (["one"], ["other"], ["one"])


def alone(asked: list[str], switches: list[str], scope: dict[str, dict[str, Any]]) -> str | None:
    plain = [direct(source) for source in (*asked, *switches)]
    if None in plain:
        return None
    try:
        for place, rule in enumerate(plain[: len(asked)]):
            if not rule(**scope):
                return f"refused by {place}"
        return f"kept by {sum(1 << bit for bit, rule in enumerate(plain[len(asked) :]) if rule(**scope))}"
    except LEFT_TO_CEL:
        return None


@pytest.mark.parametrize(
    "source",
    [
        "customer.city.startsWith('u')",
        "size(customer.city) > 1",
        "customer.age > 1.0 ? true : false",
        "now > timestamp('2026-01-01T00:00:00Z')",
        "customer['age'] > 1.0",
        "customer.age.years > 1.0",
        "'age' in customer",
        "customer.city == 'a\\n'",
        "customer.age > 0x10",
        "customer.age > 1u",
        "customer.age > 1e999",
        "customer.age == customer.orders",
        "customer.age in [1.0]",
        "customer.age % 2 == 0",
        "customer == null",
        "1.0 < customer.age < 2.0",
        "(" * MAX_DEPTH + "true" + ")" * MAX_DEPTH,
        "!" * MAX_DEPTH + "!true",
        "customer.",
        "customer.age >",
        "",
    ],
)
def test_everything_else_is_left_to_cel(source: str) -> None:
    assert direct(source) is None


@pytest.mark.parametrize("age", [None, math.nan, "41", True, EXACT + 1, (41.0,), NOW])
def test_a_value_of_another_kind_is_left_to_cel(age: Any) -> None:
    plain = direct("customer.age > 30.0")
    assert plain is not None
    with pytest.raises(LEFT_TO_CEL):
        plain({"age": age}, {}, {})


def test_a_rule_in_use_says_the_same_with_and_without_its_direct_form() -> None:
    """Errors too, word by word: those are CEL's own."""
    sources = ["customer.age > 30.0", "!(customer.age > 30.0)", "customer.city == 'ulm'", "customer.age * 2.0"]
    for source in sources:
        for age in (41.0, None, "x"):
            told = []
            for rule in (Rule(source), without_direct(Rule(source))):
                scope = RuleScope(customer={"age": age, "city": None}, now=NOW)
                told.append([result_of(rule.holds, scope), result_of(rule.number, scope)])
            assert told[0] == told[1]


def without_direct(rule: Rule) -> Rule:
    rule._direct = None
    return rule


def result_of(asked: Any, scope: RuleScope) -> str:
    try:
        return repr(asked(scope))
    except RuleFailure as failure:
        return str(failure)
