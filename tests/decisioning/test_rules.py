"""What rules may say, what they give, and that nothing which is put into them changes what they mean."""

from typing import Any

import pytest

from decisioning.rule_text import joined, pieces
from decisioning.rules import FUNCTIONS, Rule, RuleFailure, RuleScope, audiences_in, expanded, names_in
from tests.builders import NOW

KNOWN: dict[str, Any] = {
    "age": 41.0, "city": "ulm", "income": None, "note": 'action.x // in_audience("a")', "sites": ("ulm", "bonn"),
    "none": (), "vip": True, "name": "Zoë 😀",
}  # fmt: skip


def scope(**customer: Any) -> RuleScope:
    return RuleScope(
        customer=customer or KNOWN,
        account={"industry": "retail", "employees": 12.0},
        context={"device": "mobile", "items": 3, "total": 3.5},
        now=NOW,
    )


def put_in(source: str, *, action: dict[str, Any] | None = None, **audiences: str) -> str:
    return expanded(source, action=action or {}, audience=lambda name: audiences[name])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("customer.age >= 18", True),
        ("customer.age == 41", True),
        ("18 <= customer.age", True),
        ("customer.age >= 18.0 && context.device == 'mobile'", True),
        ("customer.city in ['ulm', 'bonn']", True),
        ("customer.age in [40.0, 41.0]", True),
        ("customer.age in []", False),
        ("has(customer.shoe_size)", False),
        ("has(context.page)", False),
        ("has(context.page) && context.page == 'cart'", False),
        ("context.items > 2.5 && context.total > 3", True),
        ("customer.income == null || customer.income > 1000.0", True),
        ("customer.income != null && customer.income > 1000.0", False),
        # An error does not decide what the rest decides; CEL looks at both sides.
        ("customer.income > 1000.0 || true", True),
        ("customer.income > 1000.0 && false", False),
        ("now > timestamp('2026-01-01T00:00:00Z')", True),
        ("now == timestamp('2026-03-02T13:00:00+01:00')", True),
        ("now - duration('24h') < timestamp('2026-03-02T00:00:00Z')", True),
        ("now.getDayOfWeek() == 1 && now.getHours() == 12", True),
        ("customer.city.startsWith('u')", True),
        ("customer.city.matches('^u.m$')", True),
        ("customer.name == 'Zoë 😀' && customer.name.endsWith('😀')", True),
        ("'bonn' in customer.sites && size(customer.sites) == 2", True),
        ("'bonn' in customer.none", False),
        ("customer.vip", True),
        ("!customer.vip", False),
        ("account.industry == 'retail' && account.employees > 10", True),
        ("1.0 / 0.0 > 1.0", True),
        ("'it\\'s' == \"it's\"", True),
        ("customer.city == 'ulm' // the home town", True),
        ("false // no\n || true", True),
        ("'a // b' == 'a // ' + 'b'", True),
        ("customer . city\t==\r\n'ulm'", True),
        ("customer.city\u00a0== 'ulm'", None),
        ("&&".join(["true"] * 3000), True),
        ("(" * 900 + "true" + ")" * 900, None),
    ],
)
def test_a_rule_gives_what_it_says(source: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="not a CEL expression"):
            Rule(source)
    else:
        assert Rule(source).holds(scope()) is expected


@pytest.mark.parametrize(
    "source",
    [
        "customer.income > 1000.0",
        "!(customer.income > 1000.0)",
        "customer.income + 1.0 > 0.0",
        "customer.shoe_size > 40",
        "!(customer.shoe_size > 40)",
        "customer.city > 3",
        "!(customer.city > 3)",
        "context.page == 'home'",
        "context.page != 'home'",
        "customer.city",
        "customer.income",
        "1",
        "null",
        "1 / 0 > 1",
        "1 % 0 == 0",
        "9223372036854775807 + 1 > 0",
        "customer.age * 2 > 3",  # the type checker writes 2.0
        "timestamp('yesterday') < now",
        "customer.city.matches('(')",
        "'a' in customer.income",
        "double(customer.city) > 1.0",
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_neither_true_nor_false(source: str) -> None:
    with pytest.raises(RuleFailure, match=r"\S"):
        Rule(source).holds(scope())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "not a CEL expression"),
        ("a >", "not a CEL expression"),
        ("(((", "not a CEL expression"),
        ("visitor.age > 1", "names visitor; a rule may use customer, account, context, now, action"),
        ("customer['age'] > 1.0", "must name a feature with a dot"),
        ("customer == null", "must name a feature with a dot"),
        (".customer.age > 1.0", "begins with a dot"),
        ("(.customer.age) > 1.0", "begins with a dot"),
        ("customer.`age` > 1.0", "has a backtick"),
        ("customer.tags.all(t, t != 'x')", "must not loop"),
        ("customer.tags . all (t, t != 'x')", "must not loop"),
        ("customer.tags.\nexists\n(t, true)", "must not loop"),
        ("customer.tags.exists_one//\n(t, true)", "must not loop"),
        ("[1].map(x, [1].filter(y, true))[0] == 1", "uses filter, map; rules must not loop"),
        ("foo(1)", "calls foo; a rule may call contains, double"),
        ("customer.city.upperAscii() == 'ULM'", "calls upperAscii"),
        ("in_audience(context.audience)", "calls in_audience"),
        ("now.getHours('Europe/Berlin') > 9", "gives getHours a time zone"),
        ("now.getHours() > 1 && now.getHours('x') > 9", "gives getHours a time zone"),
        (r"customer.city == r'\d'", "a letter before it"),
        ("customer.city == b'x'", "a letter before it"),
        ("customer.city == '''x'''", "two texts side by side"),
        ('customer.city == """x"""', "two texts side by side"),
        ("customer.city == 'ulm", "a quote that is not closed"),
        ("customer.city == 'a\nb'", "a quote that is not closed"),
        ("customer.age > 99999999999999999999", "not a CEL expression"),
        ("x" * 20_001, "at most 20000"),
    ],
)
def test_what_is_no_rule_is_refused(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as raised:
        Rule(source)
    assert said in str(raised.value)


@pytest.mark.parametrize("source", ["customer.map == 1.0", "context.all == 'x'", "'x.map(' == ''", "true // x.map("])
def test_only_calls_loop(source: str) -> None:
    assert Rule(source).shown == source


def test_every_function_that_a_rule_may_call_is_there_when_it_runs() -> None:
    calls = {
        "contains": "'ab'.contains('a')", "double": "double('1') == 1.0", "duration": "duration('1s') < duration('2s')",
        "endsWith": "'ab'.endsWith('b')", "has": "!has(context.a)", "int": "int('1') == 1",
        "matches": "'a'.matches('a')",
        "size": "size('a') == 1", "startsWith": "'a'.startsWith('a')", "string": "string(1) == '1'",
        "timestamp": "timestamp('2026-01-01T00:00:00Z') < now",
    }  # fmt: skip
    calls |= {name: f"now.{name}() >= 0" for name in FUNCTIONS if name.startswith("get")}

    assert calls.keys() == FUNCTIONS
    assert all(Rule(source).holds(scope()) for source in calls.values())


def test_a_failure_is_repeated_for_the_next_action_with_the_same_rule() -> None:
    seen = scope()
    for _ in range(2):
        with pytest.raises(RuleFailure):
            Rule("customer.income > 3").holds(seen)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("action.margin > 2.0", "2.5 > 2.0"),
        ("action . margin > 2.0", "2.5 > 2.0"),
        ("action.loss < 0.0 - action.loss", "(-1.0) < 0.0 - (-1.0)"),
        ("-action.loss > 0.0", "-(-1.0) > 0.0"),
        ("action.size == 'x'", "\"l\" == 'x'"),
        ("has(action.margin) && !has(action.colour)", "true && !false"),
        ("has ( action . margin )", "true"),
        ("'action.margin' == action.size", "'action.margin' == \"l\""),
        ("\"it's action.margin\" != ''", "\"it's action.margin\" != ''"),
        ("'\\'action.margin' == ''", "'\\'action.margin' == ''"),
        ("'\\\\' == action.size", "'\\\\' == \"l\""),
        ("true // action.nothing", "true"),
        ("'// ' + action.size == ''", "'// ' + \"l\" == ''"),
        ("context.action.margin == 1.0", "context.action.margin == 1.0"),
        ("customer.action == 1.0", "customer.action == 1.0"),
        ("context.reaction == 1.0 || reaction.margin > 1", "context.reaction == 1.0 || reaction.margin > 1"),
        ("action.quoted == 'x'", '"a\\" || true || \\"" == \'x\''),
        ("action.emoji == '😀'", "\"😀\\n\" == '😀'"),
        ("in_audience('old')", "(customer.age > 60.0)"),
        ('!in_audience( "old" )', "!(customer.age > 60.0)"),
        ("\"in_audience('old')\" == ''", "\"in_audience('old')\" == ''"),
        ("has(context.in_audience)", "has(context.in_audience)"),
    ],
)
def test_only_what_stands_for_the_action_or_an_audience_is_put_in(source: str, expected: str) -> None:
    action = {"margin": 2.5, "loss": -1.0, "size": "l", "quoted": 'a" || true || "', "emoji": "😀\n"}

    assert put_in(source, action=action, old="customer.age > 60.0") == expected


def test_a_text_of_the_action_stays_a_text() -> None:
    source = put_in("action.quoted == customer.city", action={"quoted": 'x" == "x" || "'})

    assert Rule(source).holds(scope()) is False


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("action.colour == 'red'", "names action.colour; this action has margin"),
        ("action == null", "must say which attribute"),
        ("action['margin'] > 1.0", "must say which attribute"),
        ("in_audience(context.x)", "must name an audience in quotes"),
        ("in_audience('a', 'b')", "must name an audience in quotes"),
        ("x" * 2001, "at most 2000"),
        ("customer.tags.exists(t, t == action.margin)", "must not loop"),
    ],
)
def test_what_cannot_be_put_in_is_refused(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as raised:
        put_in(source, action={"margin": 1.0})
    assert said in str(raised.value)


def test_a_rule_that_is_about_no_action_cannot_name_one() -> None:
    with pytest.raises(ValueError, match="is not about an action"):
        expanded("has(action.margin)", action=None, audience=str)


@pytest.mark.parametrize(
    "source", ["!in_audience('rich')", "in_audience('rich')", "!(in_audience('rich') && customer.vip)"]
)
def test_an_audience_that_errs_does_not_fail_open(source: str) -> None:
    rule = Rule(put_in(source, rich="customer.income > 1000.0"))

    with pytest.raises(RuleFailure):
        rule.holds(scope())


def test_names_and_audiences_are_found_outside_texts_and_comments_only() -> None:
    source = "customer.age > 1.0 && 'customer.x' != account.name && context.customer.y // customer.z in_audience('c')"

    assert names_in(source) == {("customer", "age"), ("account", "name")}
    assert audiences_in("in_audience('a') || context.in_audience == \"in_audience('b')\" // in_audience('c')") == ["a"]


@pytest.mark.parametrize(
    "source", ["a>=b", "a && !b", "x ? -1.5e3 : .5", "'a\\\\' + \"b'\"", "[1, 2u, 0xFF]", "a.b.c(d)[0]"]
)
def test_words_joined_again_are_the_rule(source: str) -> None:
    assert joined(pieces(source)) == source
