"""A rule's text in pieces, so that what is put into it can never end up in a string or a comment."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "number", "whole", "name", "sign"]

_NEXT = re.compile(
    r"(?P<space>(?:\s|//[^\n]*)+)"
    r"|(?P<text>\"(?:\\.|[^\"\\\r\n])*\"|'(?:\\.|[^'\\\r\n])*')"
    r"|(?P<number>0[xX][0-9a-fA-F]+[uU]?|\d*\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+[uU])"
    r"|(?P<whole>\d+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>.)",
    re.ASCII,
)
_STRING_PREFIXES = frozenset({"r", "R", "b", "B", "br", "bR", "Br", "BR", "rb", "rB", "Rb", "RB"})
_SIGNS = frozenset({"&&", "||", "==", "!=", "<=", ">="})
_ENDS_A_VALUE = frozenset(")]}")


class Piece(NamedTuple):
    """A word of a rule. `spaced`: white space or a comment stands before it."""

    kind: Kind
    said: str
    spaced: bool = False


def pieces(source: str) -> list[Piece]:
    """The rule's words, without comments.

    CEL's other ways to write a text (raw, bytes, three quotes) and names that begin with a dot are
    refused: they have plain equivalents, and nothing then depends on reading them as the runtime does.

    >>> [piece.said for piece in pieces("customer.city == 'a // b' // Ulm")]
    ['customer', '.', 'city', '==', "'a // b'"]

    Raises:
        ValueError: It is written in one of these ways, or a quote is not closed.
    """
    found: list[Piece] = []
    spaced = False
    for match in _NEXT.finditer(source):
        kind: Any = match.lastgroup
        if kind == "space":
            spaced = True
            continue
        piece = Piece(kind, match[0], spaced)
        _refuse_odd(found[-1] if found else None, piece, source)
        if kind == "sign" and found and not spaced and found[-1].said + piece.said in _SIGNS:
            found[-1] = found[-1]._replace(said=found[-1].said + piece.said)
        else:
            found.append(piece)
        spaced = False
    return found


def _refuse_odd(before: Piece | None, piece: Piece, source: str) -> None:
    if piece.said in ("'", '"'):
        raise ValueError(f"'{source}' has a quote that is not closed in its line")
    if piece.said == "`":
        raise ValueError(f"'{source}' has a backtick; names are written without quotes")
    if piece.kind == "text" and before is not None and not piece.spaced:
        if before.kind == "text":
            raise ValueError(f"'{source}' has two texts side by side; write a text once, in ' or \"")
        if before.said in _STRING_PREFIXES:
            raise ValueError(f"'{source}' has {before.said}{piece.said}; write a text without a letter before it")
    if piece.said == "." and (before is None or (before.kind == "sign" and before.said not in _ENDS_A_VALUE)):
        raise ValueError(f"'{source}' has a name that begins with a dot")


def joined(words: Iterable[Piece]) -> str:
    """The rule again, in one line and with single spaces.

    >>> joined(pieces("a   >  // the limit"))
    'a >'
    """
    return "".join((" " if word.spaced else "") + word.said for word in words).strip()


def looks_like(words: Sequence[Piece], place: int, pattern: Sequence[str]) -> bool:
    """Whether these words stand at the place; `NAME` and `TEXT` are any name and any text."""
    here = words[place : place + len(pattern)]
    return len(here) == len(pattern) and all(
        word.kind == wanted.lower() if wanted in ("NAME", "TEXT") else word.said == wanted and word.kind != "text"
        for word, wanted in zip(here, pattern, strict=True)
    )


def is_root(words: Sequence[Piece], place: int, name: str) -> bool:
    """Whether the name stands here by itself, not as a field or method of something."""
    word = words[place]
    return word.kind == "name" and word.said == name and (place == 0 or words[place - 1].said != ".")


def literal(value: Any) -> str:
    """The value as CEL writes it: any number a fraction, as features are.

    >>> literal("gold"), literal(3), literal(-0.5)
    ('"gold"', '3.0', '(-0.5)')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # CEL refuses the surrogates that \u would write
    number = repr(float(value))
    return f"({number})" if number.startswith("-") else number
