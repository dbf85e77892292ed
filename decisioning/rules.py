"""Rules that marketers write, in CEL, compiled once and evaluated per decision.

A rule sees `customer` and `account` (features by name), `context` (what the caller sent), `action`
(the catalogue's attributes), `now`, and asks `in_audience('id')`. What it says of `action` and of
audiences is put in when the catalogue is compiled, so that at run time rules of many actions are
often the same, and each is evaluated once a decision.

A rule that errs is not false: it is an error, and the caller drops the action, because
`!(customer.age > 30.0)` must not hold for a customer without an age.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import cel

ROOTS = ("customer", "account", "context", "now")
MAX_LENGTH = 2000
# Audiences are put in, so what runs may be longer than what was written.
MAX_EXPANDED = 20_000
# A comprehension can run for seconds on a long list, and the runtime has no cost limit.
BANNED_FUNCTIONS = ("all", "exists", "exists_one", "filter", "map")

_STRING = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
_PARTS = re.compile(
    rf"(?P<string>{_STRING})"
    r"|(?P<has>\bhas\s*\(\s*action\s*\.\s*(?P<had>\w+)\s*\))"
    r"|(?P<attribute>(?<![\w.])action\s*\.\s*(?P<name>\w+))"
    rf"|(?P<audience>\bin_audience\s*\(\s*(?P<id>{_STRING})\s*\))"
)
_NAMED = re.compile(rf"(?P<string>{_STRING})|(?<![\w.])(?P<root>customer|account)\s*\.\s*(?P<name>\w+)")


class RuleFailure(Exception):
    """A rule that could not be evaluated for this customer; carries the runtime's sentence."""


class Rule:
    """One compiled rule without `action` and audiences; see `expanded`.

    `shown` is what it looked like when it was written, for people.

    >>> scope = RuleScope(customer={"age": 41.0}, now=datetime(2026, 1, 1))
    >>> Rule("customer.age > 30.0").holds(scope)
    True

    Raises:
        ValueError: The text does not parse, is too long, names an unknown root or loops.
    """

    __slots__ = ("_program", "names", "shown", "source")

    def __init__(self, source: str, *, shown: str | None = None) -> None:
        if len(source) > MAX_EXPANDED:
            raise ValueError(f"the rule has {len(source)} characters with its audiences, at most {MAX_EXPANDED} go")
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ValueError(f"'{shown or source}' is not a CEL expression: {_first_line(error)}") from error
        looping = sorted(set(BANNED_FUNCTIONS) & _called_as_methods(source))
        if looping:
            raise ValueError(f"'{shown or source}' uses {', '.join(looping)}; rules must not loop over lists")
        unknown = [name for name in self._program.variables() if name not in ROOTS]
        if unknown:
            allowed = ", ".join((*ROOTS, "action", "in_audience('...')"))
            raise ValueError(f"'{shown or source}' names {', '.join(unknown)}; a rule may use {allowed}")
        self.source = source
        self.shown = shown or source
        self.names = names_in(source)

    def holds(self, scope: "RuleScope") -> bool:
        """Whether the rule is true.

        Raises:
            RuleFailure: It could not be evaluated, or its result is not a boolean.
        """
        result = scope.results.get(self.source)
        if result is None:
            result = scope.results[self.source] = self._evaluate(scope)
        if isinstance(result, bool):
            return result
        if isinstance(result, RuleFailure):
            raise result
        raise RuleFailure(f"'{self.shown}' gives {result!r}, must be true or false")

    def number(self, scope: "RuleScope") -> float:
        """What the rule gives, as a number.

        Raises:
            RuleFailure: It could not be evaluated, or its result is not a number.
        """
        result = scope.results.get(self.source)
        if result is None:
            result = scope.results[self.source] = self._evaluate(scope)
        if isinstance(result, RuleFailure):
            raise result
        if isinstance(result, bool) or not isinstance(result, int | float):
            raise RuleFailure(f"'{self.shown}' gives {result!r}, must be a number")
        return float(result)

    def _evaluate(self, scope: "RuleScope") -> Any:
        try:
            return self._program.execute(scope.context)
        except KeyError as error:
            return RuleFailure(f"'{self.shown}': {error} is not known for this customer")
        except Exception as error:  # callers choose values: a division by zero must cost an action, not the answer
            return RuleFailure(f"'{self.shown}': {_first_line(error)}")


class RuleScope:
    """What rules see in one decision; each distinct rule is evaluated once in it."""

    __slots__ = ("context", "results")

    def __init__(
        self,
        *,
        now: datetime,
        customer: Mapping[str, Any] | None = None,
        account: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self.context = cel.Context(
            variables={
                "customer": dict(customer or {}),
                "account": dict(account or {}),
                "context": dict(context or {}),
                "now": now,
            }
        )
        self.results: dict[str, Any] = {}


def expanded(source: str, *, action: Mapping[str, Any], audience: Callable[[str], str]) -> str:
    """The rule with what is known at load put in: facts of `action`, and the rules of audiences.

    >>> expanded('customer.spend > action.price && has(action.size)', action={"price": 3.0}, audience=str)
    'customer.spend > 3.0 && false'

    Raises:
        ValueError: The rule is too long, or the action has no such attribute.
    """
    if len(source) > MAX_LENGTH:
        raise ValueError(f"the rule has {len(source)} characters, at most {MAX_LENGTH} are allowed")

    def put_in(part: re.Match[str]) -> str:
        if part["string"]:
            return part[0]
        if part["has"]:
            return "true" if part["had"] in action else "false"
        if part["audience"]:
            return f"({audience(part['id'][1:-1])})"
        if part["name"] not in action:
            allowed = ", ".join(sorted(action)) or "(none)"
            raise ValueError(f"'{source}' names action.{part['name']}; this action has {allowed}")
        return _literal(action[part["name"]])

    return _PARTS.sub(put_in, source)


def audiences_in(source: str) -> list[str]:
    """Ids of the audiences that a rule asks for."""
    return [part["id"][1:-1] for part in _PARTS.finditer(source) if part["audience"]]


def names_in(source: str) -> frozenset[tuple[str, str]]:
    """Features that a rule names: `("customer", "age")` and the like.

    >>> sorted(names_in("customer.age > 3.0 && 'customer.x' != account.name"))
    [('account', 'name'), ('customer', 'age')]
    """
    return frozenset((part["root"], part["name"]) for part in _NAMED.finditer(source) if part["root"])


def conjunction(rules: Iterable[Rule]) -> str:
    """One rule that holds where all of these do."""
    return " && ".join(f"({rule.source})" for rule in rules)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else repr(float(value))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _called_as_methods(source: str) -> set[str]:
    """Names that are called as methods in the text; macros do not show up as functions."""
    names: set[str] = set()
    for part in source.replace(" ", "").split("(")[:-1]:
        _, dot, name = part.rpartition(".")
        if dot:
            names.add(name)
    return names
