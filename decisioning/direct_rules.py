"""Plain rules as Python functions: the CEL runtime costs most of a decision, and most rules do not need it.

Comparisons of features and of what the caller sent with literals and with each other, arithmetic,
`&&`, `||`, `!`, `in`, `has` and tests for null are understood here; everything else is left to CEL.
So is every value that is not exactly of the kind that the rule compares: what CEL calls an error is
never judged here. Where a direct rule gives an answer, CEL gives the same: a test holds the two together.
"""

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, Literal, NamedTuple

from decisioning.rule_text import Piece, pieces

# Python's stack is deeper than any rule that a person wrote.
MAX_DEPTH = 40
# Larger whole numbers are not all fractions in binary: comparisons with fractions then differ.
EXACT = 2**53

Kind = Literal["number", "text", "truth", "list", "null", "value"]
Scope = Mapping[str, Any]
Direct = Callable[[Scope, Scope, Scope], Any]

_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "==": ast.Eq, "!=": ast.NotEq,
}  # fmt: skip
_ARITHMETIC: dict[str, type[ast.operator]] = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div}
_ROOTS = ("customer", "account", "context")
# What binds a variable to `value`, whose class is `kind`; most values are fractions.
_BINDINGS = {
    "number": "if kind is float:\n  if value == value: VARIABLE = value\n"
    f"elif kind is int and -{EXACT} <= value <= {EXACT}: VARIABLE = value",
    "text": "if kind is str or value is None: VARIABLE = value",
    "truth": "if kind is bool: VARIABLE = value",
    "list": "if kind is tuple: VARIABLE = value",
    "value": "if value is not missing: VARIABLE = value",
}


class NotDirect(Exception):
    """CEL must say: of a rule, that it is not plain; of a value, that it is not of the rule's kind."""


# A value of another kind leaves its variable unbound, which is a `NameError`.
LEFT_TO_CEL = (NameError, NotDirect, ZeroDivisionError)


def direct(source: str) -> Direct | None:
    """The rule as a function of features of customer and account, and of the context; None where it is not plain.

    A feature that is not there is null; what the context does not have is an error. The function
    raises one of `LEFT_TO_CEL` where CEL must say.

    >>> direct("customer.age > 30.0 && context.device == 'tv'")({"age": 41.0}, {}, {"device": "tv"})
    True
    >>> direct("customer.city.startsWith('U')") is None
    True
    """
    result = _read(source)
    return None if result is None else _function(_compiled([ast.Return(result)]), {})


class Screened(NamedTuple):
    """Rules that together decide between outcomes.

    Attributes:
        asked: Rules in their order, each with the outcome where it is the first that does not hold.
        switches: Rules that may hold or not.
        outcomes: One for every set of switches that hold, the first switch being the lowest bit.
    """

    asked: Sequence[tuple[str, Any]]
    switches: Sequence[str]
    outcomes: Sequence[Any]


def screen(screened: Sequence[Screened]) -> Callable[[Scope, Scope, Scope], list[Any]]:
    """All these rules in one function, which costs a fraction of a call for each.

    It takes what a direct rule takes and lists the outcome of each; None where CEL must say, or
    where one of its rules is not plain.

    >>> adults = Screened([("customer.age > 18.0", "a child")], ["customer.city == 'Ulm'"], ["elsewhere", "in Ulm"])
    >>> screen([adults])({"age": 41.0, "city": "Ulm"}, {}, {}), screen([adults])({"age": 4.0}, {}, {})
    (['in Ulm'], ['a child'])
    """
    rules = tuple((tuple(source for source, _ in one.asked), tuple(one.switches)) for one in screened)
    known: dict[str, Any] = {"nothing": [None] * len(screened)}
    for place, one in enumerate(screened):
        known[f"outcomes_{place}"] = tuple(one.outcomes)
        known |= {f"refusal_{place}_{number}": outcome for number, (_, outcome) in enumerate(one.asked)}
    return _function(_screening(rules), known)


@lru_cache(maxsize=128)  # catalogues of markets and variants ask the same rules for other outcomes
def _screening(rules: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]) -> CodeType:
    """What `screen` runs, compiled: of each, the rules that are asked and the switches."""
    copied = ast.Call(ast.Attribute(_variable("nothing"), "copy", ast.Load()), [], [])
    body: list[ast.stmt] = [ast.Assign([_bound("found")], copied)]
    for place, (asked, switches) in enumerate(rules):
        trees = [tree for source in (*asked, *switches) if (tree := _read(source)) is not None]
        if len(trees) < len(asked) + len(switches):
            continue

        def found(outcome: ast.expr, place: int = place) -> ast.stmt:
            return ast.Assign([ast.Subscript(_variable("found"), ast.Constant(place), ast.Store())], outcome)

        which: ast.expr = ast.Constant(0)
        for bit, switch in enumerate(trees[len(asked) :]):
            which = ast.BinOp(which, ast.Add(), ast.IfExp(switch, ast.Constant(1 << bit), ast.Constant(0)))
        kept = found(ast.Subscript(_variable(f"outcomes_{place}"), which, ast.Load()))
        for number in reversed(range(len(asked))):
            kept = ast.If(trees[number], [kept], [found(_variable(f"refusal_{place}_{number}"))])
        left_to_cel = ast.ExceptHandler(_variable("left_to_cel"), None, [ast.Pass()])
        body.append(ast.Try([kept], [left_to_cel], [], []))
    return _compiled([*body, ast.Return(_variable("found"))])


def _read(source: str) -> ast.expr | None:
    try:
        return _Reading(pieces(source)).whole()
    except (NotDirect, ValueError):
        return None


def _compiled(body: list[ast.stmt]) -> CodeType:
    """A function of these statements, compiled; every value is looked up once, at its begin.

    It is made of the nodes that this module makes, of its own sentences and of literals alone:
    nothing of a rule's text is run.
    """
    arguments = ast.arguments([], [ast.arg(root) for root in _ROOTS], None, [], [], None, [])
    function = ast.FunctionDef("rule", arguments, [*_looked_up(body), *body], [])
    return compile(ast.fix_missing_locations(ast.Module([function], [])), "<rules>", "exec")


def _function(code: CodeType, known: Mapping[str, Any]) -> Any:
    """The function, which uses what is `known`."""
    names = {
        **known,
        "__builtins__": {"bool": bool, "float": float, "int": int, "str": str, "tuple": tuple},
        "a_number": _a_number,
        "a_fraction": _a_fraction,
        "left_to_cel": LEFT_TO_CEL,
        "missing": object(),
    }
    exec(code, names)  # noqa: S102
    return names["rule"]


def _looked_up(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    """What binds the variables that these statements use; see `_of` for their names."""
    used: dict[tuple[str, str], dict[str, str]] = {}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and "." in node.id:
                kind, root, name = node.id.split(".")
                used.setdefault((root, name), {})[kind] = node.id
    found: list[ast.stmt] = []
    for (root, name), variables in used.items():
        get = ast.Attribute(_variable(root), "get", ast.Load())
        default = _variable("missing") if root == "context" else ast.Constant(None)
        found.append(ast.Assign([_bound("value")], ast.Call(get, [ast.Constant(name), default], [])))
        found.append(ast.Assign([_bound("kind")], ast.Attribute(_variable("value"), "__class__", ast.Load())))
        for kind, variable in variables.items():
            binding = ast.parse(_BINDINGS[kind])
            for node in ast.walk(binding):
                if isinstance(node, ast.Name) and node.id == "VARIABLE":
                    node.id = variable
            found += binding.body
    return found


class _Term(NamedTuple):
    """A part of a rule: a Python expression and what it gives; of a `value`, that hangs on what it is compared with."""

    kind: Kind
    tree: ast.expr
    name: str = ""  # of a value


class _Reading:
    """A recursive descent over the words, in CEL's order of precedence."""

    def __init__(self, words: Sequence[Piece]) -> None:
        self._words = words
        self._place = 0
        self._depth = 0

    def whole(self) -> ast.expr:
        term = self._either()
        if self._place < len(self._words):
            raise NotDirect
        if term.kind == "value":
            value = _of("value", term.name)
            is_truth = ast.Compare(ast.Attribute(value, "__class__", ast.Load()), [ast.Is()], [_variable("bool")])
            return ast.IfExp(is_truth, value, _of("number", term.name))
        if term.kind == "number":
            return term.tree
        return _truth(term)

    def _either(self) -> _Term:
        return self._chain("||", ast.Or(), self._both)

    def _both(self) -> _Term:
        return self._chain("&&", ast.And(), self._relation)

    def _chain(self, sign: str, joint: ast.boolop, part: Callable[[], _Term]) -> _Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotDirect
        terms = [part()]
        while self._take(sign):
            terms.append(part())
        self._depth -= 1
        if len(terms) == 1:
            return terms[0]
        return _Term("truth", ast.BoolOp(joint, [_truth(term) for term in terms]))

    def _relation(self) -> _Term:
        left = self._sum()
        said = self._said()
        if said in _COMPARISONS:
            self._place += 1
            return self._compared(left, said, self._sum())
        if said == "in":
            self._place += 1
            return self._contained(left)
        return left

    def _compared(self, left: _Term, said: str, right: _Term) -> _Term:
        operator = _COMPARISONS[said]()
        kinds = {left.kind, right.kind}
        if "null" in kinds and said in ("==", "!="):
            value = left if right.kind == "null" else right
            if value.kind != "value":
                raise NotDirect
            test = ast.Is() if said == "==" else ast.IsNot()
            return _Term("truth", ast.Compare(_of("value", value.name), [test], [ast.Constant(None)]))
        if kinds == {"value"}:
            if said in ("==", "!="):
                raise NotDirect  # of which kind they are is not known here
            kinds = {"number"}
        kinds.discard("value")
        if len(kinds) != 1 or (said not in ("==", "!=") and kinds != {"number"}):
            raise NotDirect
        [kind] = kinds
        trees = [_ordered(term) if kind == "number" else _as(kind, term) for term in (left, right)]
        return _Term("truth", ast.Compare(trees[0], [operator], [trees[1]]))

    def _contained(self, left: _Term) -> _Term:
        if self._said() != "[":
            within = self._sum()
            if left.kind != "text" or within.kind != "value":
                raise NotDirect
            return _Term("truth", ast.Compare(left.tree, [ast.In()], [_of("list", within.name)]))
        self._place += 1
        among = [self._text()]
        while self._take(","):
            among.append(self._text())
        self._expect("]")
        if left.kind != "value":
            raise NotDirect
        allowed = ast.Constant(frozenset(among))  # type: ignore[arg-type]
        return _Term("truth", ast.Compare(_of("text", left.name), [ast.In()], [allowed]))

    def _sum(self) -> _Term:
        return self._calculated(("+", "-"), lambda: self._calculated(("*", "/"), self._signed))

    def _calculated(self, signs: tuple[str, ...], part: Callable[[], _Term]) -> _Term:
        term = part()
        while (said := self._said()) in signs:
            self._place += 1
            term = _Term("number", ast.BinOp(_fraction(term), _ARITHMETIC[said](), _fraction(part())))
        return term

    def _signed(self) -> _Term:
        if self._take("!"):
            return _Term("truth", ast.UnaryOp(ast.Not(), _truth(self._signed_again())))
        if self._take("-"):
            term = self._primary()
            if term.kind != "number" or not isinstance(term.tree, ast.Constant):
                raise NotDirect
            return _Term("number", ast.UnaryOp(ast.USub(), term.tree))
        return self._primary()

    def _signed_again(self) -> _Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotDirect
        term = self._signed()
        self._depth -= 1
        return term

    def _primary(self) -> _Term:
        piece = self._next()
        if piece.said == "(":
            term = self._either()
            self._expect(")")
            return term
        if piece.kind == "text":
            return _Term("text", ast.Constant(_unquoted(piece.said)))
        if piece.kind in ("number", "whole"):
            return _Term("number", ast.Constant(_number(piece)))
        if piece.said in ("true", "false"):
            return _Term("truth", ast.Constant(piece.said == "true"))
        if piece.said == "null":
            return _Term("null", ast.Constant(None))
        if piece.said == "has" and self._take("("):
            name = self._named(self._next())
            self._expect(")")
            root, _, selected = name.partition(".")
            if root != "context":
                raise NotDirect  # whether CEL is told of it is not known here
            return _Term("truth", ast.Compare(ast.Constant(selected), [ast.In()], [_variable(root)]))
        name = self._named(piece)
        return _Term("value", ast.Constant(name), name)

    def _named(self, root: Piece) -> str:
        """What is meant, as `customer.age`."""
        if root.kind != "name" or root.said not in _ROOTS:
            raise NotDirect
        self._expect(".")
        name = self._next()
        if name.kind != "name" or self._said() in (".", "[", "(", "{", "?"):
            raise NotDirect
        return f"{root.said}.{name.said}"

    def _text(self) -> str:
        piece = self._next()
        if piece.kind != "text":
            raise NotDirect
        return _unquoted(piece.said)

    def _said(self) -> str:
        """The next sign or name; nothing at the end, nor of a literal."""
        piece = self._words[self._place] if self._place < len(self._words) else None
        return piece.said if piece is not None and piece.kind in ("sign", "name") else ""

    def _next(self) -> Piece:
        if self._place >= len(self._words):
            raise NotDirect
        self._place += 1
        return self._words[self._place - 1]

    def _take(self, said: str) -> bool:
        found = self._said() == said
        self._place += found
        return found

    def _expect(self, said: str) -> None:
        if not self._take(said):
            raise NotDirect


def _as(kind: Kind, term: _Term) -> ast.expr:
    if term.kind == "value":
        return _of(kind, term.name)
    if term.kind != kind:
        raise NotDirect
    return term.tree


def _truth(term: _Term) -> ast.expr:
    return _as("truth", term)


def _ordered(term: _Term) -> ast.expr:
    """A number that can be compared: CEL refuses to compare what is not one (infinity less infinity)."""
    tree = _as("number", term)
    return _called("a_number", tree) if isinstance(tree, ast.BinOp) else tree


def _fraction(term: _Term) -> ast.expr:
    """A number to calculate with: CEL does not mix whole numbers and fractions."""
    tree = _as("number", term)
    literal = tree.operand if isinstance(tree, ast.UnaryOp) else tree
    if isinstance(literal, ast.Constant) and not isinstance(literal.value, float):
        raise NotDirect
    return _called("a_fraction", tree) if term.kind == "value" else tree


def _of(kind: Kind, name: str) -> ast.expr:
    """The variable of a value that must be of a kind: no name of Python's own has a dot."""
    return _variable(f"{kind}.{name}")


def _variable(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _bound(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


def _called(function: str, tree: ast.expr) -> ast.expr:
    return ast.Call(_variable(function), [tree], [])


def _a_number(value: float) -> float:
    if value != value:  # NaN
        raise NotDirect
    return value


def _a_fraction(value: float) -> float:
    if value.__class__ is not float:
        raise NotDirect
    return value


def _unquoted(said: str) -> str:
    if "\\" in said:
        raise NotDirect
    return said[1:-1]


def _number(piece: Piece) -> float:
    if piece.kind == "whole":
        whole = int(piece.said)
        if whole > EXACT:
            raise NotDirect
        return whole
    if not set(piece.said) <= set("0123456789.eE+-"):
        raise NotDirect  # hexadecimal, or without a sign
    value = float(piece.said)
    if not math.isfinite(value):
        raise NotDirect
    return value
