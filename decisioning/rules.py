"""Rules that marketers write, in CEL, compiled once and evaluated per decision.

A rule sees `customer` and `account` (features by name), `context` (what the caller sent), `action`
(the catalogue's attributes), `now`, and asks `in_audience('id')`. What it says of `action` and of
audiences is put in when the catalogue is compiled, so that at run time rules of many actions are
often the same, and each is evaluated once a decision.

A rule that errs is not false: it is an error, and the caller drops the action, because
`!(customer.age > 30.0)` must not hold for a customer without an age.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import cel

from decisioning.direct_rules import LEFT_TO_CEL, direct
from decisioning.rule_text import Piece, is_root, joined, literal, looks_like, pieces

ROOTS = ("customer", "account", "context", "now")
MAX_LENGTH = 2000
# Audiences are put in, so what runs may be longer than what was written.
MAX_EXPANDED = 20_000
# A comprehension can run for seconds on a long list, and the runtime has no cost limit.
BANNED_FUNCTIONS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
# What both the type checker and the runtime know; each knows some that the other does not.
FUNCTIONS = frozenset(
    {
        "contains", "double", "duration", "endsWith", "getDate", "getDayOfMonth", "getDayOfWeek",
        "getDayOfYear", "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds", "has",
        "int", "matches", "size", "startsWith", "string", "timestamp",
    }
)  # fmt: skip
_FEATURES = ("customer", "account")


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

    __slots__ = ("_direct", "_program", "names", "shown", "source")

    def __init__(self, source: str, *, shown: str | None = None) -> None:
        if len(source) > MAX_EXPANDED:
            raise ValueError(f"the rule has {len(source)} characters with its audiences, at most {MAX_EXPANDED} go")
        written = shown or source
        words = pieces(source)
        _refuse_functions(words, written)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ValueError(f"'{written}' is not a CEL expression: {_first_line(error)}") from error
        unknown = [name for name in self._program.variables() if name not in ROOTS]
        if unknown:
            allowed = ", ".join((*ROOTS, "action", "in_audience('...')"))
            raise ValueError(f"'{written}' names {', '.join(unknown)}; a rule may use {allowed}")
        self._direct = direct(source)
        self.source = source
        self.shown = written
        self.names = frozenset(_names(words, written))

    def holds(self, scope: "RuleScope") -> bool:
        """Whether the rule is true.

        Raises:
            RuleFailure: It could not be evaluated, or its result is not a boolean.
        """
        result = scope.results.get(self.source)
        if result is None:
            result = scope.results[self.source] = self._evaluate(scope)
        if result is True or result is False:
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
        if self._direct is not None:
            try:
                return self._direct(scope.customer, scope.account, scope.context)
            except LEFT_TO_CEL:
                pass
        try:
            return self._program.execute(scope.for_cel)
        except KeyError as error:
            return RuleFailure(f"'{self.shown}': {error} is not known for this customer")
        except Exception as error:  # callers choose values: a division by zero must cost an action, not the answer
            return RuleFailure(f"'{self.shown}': {_first_line(error)}")


class RuleScope:
    """What rules see in one decision; each distinct rule is evaluated once in it.

    A feature that is not known is null; `named` are those that rules name, and CEL must be told so.
    Most decisions do without CEL (see `direct_rules`), so what it sees is made when first asked for.
    """

    __slots__ = ("_for_cel", "_named", "account", "context", "customer", "now", "results")

    def __init__(
        self,
        *,
        now: datetime,
        customer: Mapping[str, Any] | None = None,
        account: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        named: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.now = now
        self.customer: Mapping[str, Any] = customer or {}
        self.account: Mapping[str, Any] = account or {}
        self.context: Mapping[str, Any] = context or {}
        self.results: dict[str, Any] = {}
        self._named = named
        self._for_cel: cel.Context | None = None

    @property
    def for_cel(self) -> cel.Context:
        """What CEL sees."""
        if self._for_cel is None:
            known: dict[str, dict[str, Any]] = {"customer": dict(self.customer), "account": dict(self.account)}
            for root, name in self._named:
                known[root].setdefault(name, None)
            self._for_cel = cel.Context(variables={**known, "context": dict(self.context), "now": self.now})
        return self._for_cel


def expanded(source: str, *, action: Mapping[str, Any] | None, audience: Callable[[str], str]) -> str:
    """The rule with what is known at load put in: facts of `action`, and the rules of audiences.

    >>> expanded('customer.spend > action.price && has(action.size)', action={"price": 3.0}, audience=str)
    'customer.spend > 3.0 && false'

    `action` is None for rules that are not about one: those of audiences and stages.

    Raises:
        ValueError: The rule is too long, calls what it must not, or the action has no such attribute.
    """
    if len(source) > MAX_LENGTH:
        raise ValueError(f"the rule has {len(source)} characters, at most {MAX_LENGTH} are allowed")

    words = pieces(source)
    put_in: list[Piece] = []
    place = 0
    while place < len(words):
        said, length = _put_in(words, place, source, action, audience)
        put_in.append(words[place] if length == 1 else Piece("sign", said, words[place].spaced))
        place += length
    _refuse_functions(put_in, source)
    return joined(put_in)


def _put_in(
    words: list[Piece], place: int, source: str, action: Mapping[str, Any] | None, audience: Callable[[str], str]
) -> tuple[str, int]:
    """What takes the place of the words from here on, and of how many of them."""
    known = action or {}
    if is_root(words, place, "in_audience"):
        if not looks_like(words, place, ("in_audience", "(", "TEXT", ")")):
            raise ValueError(f"'{source}' must name an audience in quotes: in_audience('loyal')")
        return f"({audience(words[place + 2].said[1:-1])})", 4
    if is_root(words, place, "action"):
        if action is None:
            raise ValueError(f"'{source}' names action; this rule is not about an action")
        allowed = ", ".join(sorted(known)) or "(none)"
        if not looks_like(words, place, ("action", ".", "NAME")):
            raise ValueError(f"'{source}' must say which attribute of the action it means; this action has {allowed}")
        name = words[place + 2].said
        if name not in known:
            raise ValueError(f"'{source}' names action.{name}; this action has {allowed}")
        return literal(known[name]), 3
    asks_has = is_root(words, place, "has") and looks_like(words, place, ("has", "(", "action", ".", "NAME", ")"))
    if action is not None and asks_has:
        return ("true" if words[place + 4].said in known else "false"), 6
    return words[place].said, 1


def audiences_in(source: str) -> list[str]:
    """Ids of the audiences that a rule asks for.

    >>> audiences_in("in_audience('loyal') && context.page != 'in_audience(1)'")
    ['loyal']

    Raises:
        ValueError: See `rule_text.pieces`.
    """
    words = pieces(source)
    return [
        words[place + 2].said[1:-1]
        for place in range(len(words))
        if is_root(words, place, "in_audience") and looks_like(words, place, ("in_audience", "(", "TEXT", ")"))
    ]


def names_in(source: str) -> frozenset[tuple[str, str]]:
    """Features that a rule names: `("customer", "age")` and the like.

    >>> sorted(names_in("customer.age > 3.0 && 'customer.x' != account.name"))
    [('account', 'name'), ('customer', 'age')]

    Raises:
        ValueError: It reaches for a feature in another way, like `customer['age']`.
    """
    return frozenset(_names(pieces(source), source))


def _names(words: list[Piece], written: str) -> Iterable[tuple[str, str]]:
    for place, word in enumerate(words):
        if word.said in _FEATURES and is_root(words, place, word.said):
            if not looks_like(words, place, (word.said, ".", "NAME")):
                raise ValueError(f"'{written}' must name a feature with a dot, like {word.said}.age")
            yield word.said, words[place + 2].said


def _refuse_functions(words: list[Piece], written: str) -> None:
    calls = [
        (word.said, words[place + 2 : place + 3])
        for place, word in enumerate(words)
        if word.kind == "name" and looks_like(words, place + 1, ("(",))
    ]
    called = {name for name, _ in calls}
    looping = sorted(BANNED_FUNCTIONS & called)
    if looping:
        raise ValueError(f"'{written}' uses {', '.join(looping)}; rules must not loop over lists")
    unknown = sorted(called - FUNCTIONS - {"in"})  # `in (a)` looks like a call
    if unknown:
        raise ValueError(
            f"'{written}' calls {', '.join(unknown)}; a rule may call {', '.join(sorted(FUNCTIONS))}, in_audience"
        )
    for name, following in calls:
        if name.startswith("get") and following and following[0].said != ")":
            raise ValueError(f"'{written}' gives {name} a time zone; it takes none, times are in UTC")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
