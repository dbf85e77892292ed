"""Rules that marketers write, in CEL, compiled once and evaluated per decision.

A rule sees `customer` (features by name), `context` (what the caller sent), `action` (the
catalogue's attributes) and `now`. A rule that errs is not false: it is an error, and the caller
drops the action, because `!(customer.age > 30)` must not hold for a customer without an age.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import cel

ROOTS = ("customer", "context", "action", "now")
MAX_LENGTH = 2000
# A comprehension can run for seconds on a long list, and the runtime has no cost limit.
BANNED_FUNCTIONS = ("all", "exists", "exists_one", "filter", "map")


class Described(Protocol):
    """Something with attributes that a rule may name."""

    def scope(self) -> Mapping[str, Any]:
        """Attributes by name."""
        ...


class RuleFailure(Exception):
    """A rule that could not be evaluated for this customer; carries the runtime's sentence."""


class Rule:
    """One compiled rule.

    >>> Rule('action.margin > 2.0').per_action
    True

    Raises:
        ValueError: The text does not parse, is too long, names an unknown root or loops.
    """

    __slots__ = ("_program", "per_action", "source")

    def __init__(self, source: str) -> None:
        if len(source) > MAX_LENGTH:
            raise ValueError(f"the rule has {len(source)} characters, at most {MAX_LENGTH} are allowed")
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ValueError(f"'{source}' is not a CEL expression: {_first_line(error)}") from error
        looping = sorted(set(BANNED_FUNCTIONS) & _macro_names(source))
        if looping:
            raise ValueError(f"'{source}' uses {', '.join(looping)}; rules must not loop over lists")
        unknown = [name for name in self._program.variables() if name not in ROOTS]
        if unknown:
            raise ValueError(f"'{source}' names {', '.join(unknown)}; a rule may use {', '.join(ROOTS)}")
        self.source = source
        self.per_action = "action" in self._program.variables()

    def holds(self, scope: "RuleScope", action: "Described | None" = None) -> bool:
        """Whether the rule is true, of `action` where it speaks of one.

        Raises:
            RuleFailure: It could not be evaluated, or its result is not a boolean.
        """
        if not self.per_action:
            known = scope.results.get(self.source)
            if known is None:
                known = scope.results[self.source] = self._evaluate(scope)
        else:
            scope.context.add_variable("action", action.scope() if action else {})
            known = self._evaluate(scope)
        if isinstance(known, RuleFailure):
            raise known
        return known

    def _evaluate(self, scope: "RuleScope") -> "bool | RuleFailure":
        try:
            result = self._program.execute(scope.context)
        except KeyError as error:
            return RuleFailure(f"'{self.source}': {error} is not known for this customer")
        except Exception as error:  # callers choose values: a division by zero must cost an action, not the answer
            return RuleFailure(f"'{self.source}': {_first_line(error)}")
        if not isinstance(result, bool):
            return RuleFailure(f"'{self.source}' gives {result!r}, must be true or false")
        return result


class RuleScope:
    """What rules see in one decision; each distinct rule without `action` is evaluated once in it.

    >>> scope = RuleScope(customer={"age": 41.0}, context={}, now=datetime(2026, 1, 1))
    >>> Rule("customer.age > 30").holds(scope)
    True
    """

    __slots__ = ("context", "results")

    def __init__(self, *, customer: Mapping[str, Any], context: Mapping[str, Any], now: datetime) -> None:
        self.context = cel.Context(
            variables={"customer": dict(customer), "context": dict(context), "now": now, "action": {}}
        )
        self.results: dict[str, bool | RuleFailure] = {}


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _macro_names(source: str) -> set[str]:
    """Names that are called as methods in the text; macros do not show up as functions."""
    names: set[str] = set()
    for part in source.replace(" ", "").split("(")[:-1]:
        _, dot, name = part.rpartition(".")
        if dot:
            names.add(name)
    return names
