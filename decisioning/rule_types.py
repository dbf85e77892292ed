"""Do a rule's names and types fit? Checked when a catalogue is loaded, by Google's CEL type checker.

The runtime that evaluates rules finds out only for the customer at hand, and then drops the action.
"""

import difflib
import re
from typing import Any, Literal, NamedTuple

from cel_expr_python import cel as checker

from decisioning.content import FeatureTypes
from decisioning.rule_text import Piece, is_root, joined, looks_like, pieces
from decisioning.rules import ROOTS

_KINDS: dict[str, Any] = {
    # Wrapped types may be null, as features of a customer may be missing. A missing list is empty.
    "number": checker.Type("google.protobuf.DoubleValue"),
    "text": checker.Type("google.protobuf.StringValue"),
    "truth": checker.Type("google.protobuf.BoolValue"),
    "texts": checker.Type.List(checker.Type.STRING),
}
_RESULTS = {"truth": ("BOOL", "google.protobuf.BoolValue"), "number": ("DOUBLE", "INT", "google.protobuf.DoubleValue")}
_TRIES = 200  # at finding which whole numbers must be fractions


class _Complaint(NamedTuple):
    at: int
    sentence: str


class RuleTypes:
    """Checks rules against the features that there are.

    >>> types = RuleTypes(FeatureTypes(customer={"age": "number", "city": "text"}))
    >>> types.checked("customer.age > 30 && customer.city in ['ulm']")
    "customer.age > 30.0 && customer.city in ['ulm']"
    """

    def __init__(self, features: FeatureTypes | None) -> None:
        variables: dict[str, Any] = {
            "context": checker.Type.Map(checker.Type.STRING, checker.Type.DYN),
            "now": checker.Type.TIMESTAMP,
        }
        for root in ("customer", "account"):
            if features is None:
                variables[root] = checker.Type.Map(checker.Type.STRING, checker.Type.DYN)
            else:
                variables |= {f"{root}.{name}": _KINDS[kind] for name, kind in getattr(features, root).items()}
        self._environment = checker.NewEnv(variables=variables)
        self._features = None if features is None else sorted(name for name in variables if "." in name)

    def checked(self, source: str, *, gives: Literal["truth", "number"] = "truth", shown: str | None = None) -> str:
        """The rule to run: the same, with whole numbers written as fractions where features need them.

        Raises:
            ValueError: A name is not known, or types do not fit.
        """
        written = shown or source
        words = pieces(source)
        source = joined(words)
        if self._features is not None:
            _refuse_has(words, written)
        kind, complaints = self._judged(source)
        if complaints and any(word.kind == "whole" for word in words):
            source, kind, remaining = self._with_fractions(words, complaints)
            complaints = remaining if len(remaining) < len(complaints) else complaints
        if complaints:
            raise ValueError(f"'{written}' {'; '.join(self._explained(each) for each in complaints)}")
        if kind != "DYN" and kind not in _RESULTS[gives]:
            wanted = "true or false" if gives == "truth" else "a number"
            raise ValueError(f"'{written}' gives {_KIND_NAMES.get(kind, kind)}, must give {wanted}")
        return source

    def _judged(self, source: str) -> tuple[str, list[_Complaint]]:
        try:
            return str(self._environment.compile(source).return_type().name()), []
        except Exception as error:  # the checker raises RuntimeError for whatever is wrong
            found = []
            for said in str(error).split("ERROR: <input>:")[1:]:
                place, _, sentence = said.splitlines()[0].partition(": ")
                found.append(_Complaint(int(place.split(":")[-1]), sentence))
            return "", found or [_Complaint(1, str(error).splitlines()[0] if str(error) else type(error).__name__)]

    def _with_fractions(self, words: list[Piece], complaints: list[_Complaint]) -> tuple[str, str, list[_Complaint]]:
        """The rule with as many of its whole numbers as fractions as it takes.

        Mostly all of them; not so beside `size(...)`, which is whole. Then the number nearest to a
        complaint that makes it go away is the one.
        """
        everywhere = joined(_fraction(word) for word in words)
        kind, remaining = self._judged(everywhere)
        if not remaining:
            return everywhere, kind, []
        if len(remaining) < len(complaints):  # something else is wrong as well
            return everywhere, kind, remaining
        tries = _TRIES
        while complaints:
            first = complaints[0]
            starts = _starts(words)
            whole = [place for place, word in enumerate(words) if word.kind == "whole"]
            for place in sorted(whole, key=lambda place: abs(starts[place] - first.at)):
                tries -= 1
                tried = [*words[:place], _fraction(words[place]), *words[place + 1 :]]
                kind, remaining = self._judged(joined(tried))
                moved = first._replace(at=first.at + (2 if starts[place] < first.at else 0))
                if moved not in remaining:
                    words, complaints = tried, remaining
                    break
                if not tries:
                    return joined(words), "", complaints
            else:
                return joined(words), "", complaints
        return joined(words), kind, []

    def _explained(self, complaint: _Complaint) -> str:
        """The checker's sentence in the catalogue's words, and what is allowed."""
        sentence = complaint.sentence.replace(" (in container '')", "")
        if sentence.startswith("Syntax error"):
            return f"is not a CEL expression: {sentence.split(' expecting ')[0]} (at character {complaint.at})"
        unknown = re.fullmatch(r"undeclared reference to '(.*)'", sentence)
        if unknown and unknown[1].split(".")[0] not in ROOTS:
            allowed = ", ".join((*ROOTS, "action", "in_audience('...')"))
            return f"names {unknown[1]}; a rule may use {allowed}"
        if unknown:
            features = self._features or []
            near = difflib.get_close_matches(unknown[1], features, n=3, cutoff=0.6) or features
            shown = ", ".join(near[:20]) + (", ..." if len(near) > 20 else "") or "(none)"
            return f"names {unknown[1]}, and there is no such feature, must be one like {shown}"
        for kind, word in _WORDS:
            sentence = re.sub(rf"(?<![\w.']){re.escape(kind)}(?![\w'])", word, sentence)
        mixed = "(number, whole number)" in sentence or "(whole number, number)" in sentence
        hint = "; features are fractions, write 3.0, not 3, and double(...) around what is whole" if mixed else ""
        return f"does not fit: {sentence} (at character {complaint.at}){hint}"


def _refuse_has(words: list[Piece], written: str) -> None:
    for place in range(len(words)):
        if not is_root(words, place, "has"):
            continue
        for root in ("customer", "account"):
            if looks_like(words, place, ("has", "(", root, ".", "NAME", ")")):
                name = f"{root}.{words[place + 4].said}"
                raise ValueError(
                    f"'{written}' asks has({name}): every feature is there, and null where nothing is known;"
                    f" write {name} != null"
                )


def _fraction(word: Piece) -> Piece:
    return word._replace(kind="number", said=f"{word.said}.0") if word.kind == "whole" else word


def _starts(words: list[Piece]) -> list[int]:
    """At which character of the joined text each word begins, from 1."""
    starts, reached = [], 1
    for place, word in enumerate(words):
        reached += 1 if word.spaced and place else 0
        starts.append(reached)
        reached += len(word.said)
    return starts


# The checker's types in words that the catalogue uses.
_WORDS = (
    ("wrapper(double)", "number"), ("wrapper(string)", "text"), ("wrapper(bool)", "truth"), ("double", "number"),
    ("int", "whole number"), ("string", "text"), ("null_type", "null"), ("bool", "truth"),
)  # fmt: skip
_KIND_NAMES = {
    "BOOL": "true or false", "DOUBLE": "a number", "INT": "a whole number", "UINT": "a whole number",
    "STRING": "a text", "NULL": "null", "LIST": "a list", "MAP": "a map", "TIMESTAMP": "a time",
    "DURATION": "a duration", "BYTES": "bytes", "google.protobuf.BoolValue": "true or false",
    "google.protobuf.DoubleValue": "a number", "google.protobuf.StringValue": "a text",
}  # fmt: skip
