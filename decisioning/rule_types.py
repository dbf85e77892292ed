"""Do a rule's names and types fit? Checked when a catalogue is loaded, by Google's CEL type checker.

The runtime that evaluates rules finds out only for the customer at hand, and then drops the action.
"""

import re
from typing import Any, Literal

from cel_expr_python import cel as checker

from decisioning.content import FeatureTypes

_KINDS: dict[str, Any] = {
    # Wrapped types may be null, as features of a customer may be missing. A missing list is empty.
    "number": checker.Type("google.protobuf.DoubleValue"),
    "text": checker.Type("google.protobuf.StringValue"),
    "truth": checker.Type("google.protobuf.BoolValue"),
    "texts": checker.Type.List(checker.Type.STRING),
}
_RESULTS = {"truth": ("BOOL", "google.protobuf.BoolValue"), "number": ("DOUBLE", "INT", "google.protobuf.DoubleValue")}
_INTEGER = re.compile(r"(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')|(?<![\w.])(\d+)(?![\w.])")
_HAS_FEATURE = re.compile(r"\bhas\s*\(\s*((?:customer|account)\s*\.\s*\w+)\s*\)")


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
        self._known = features is not None

    def checked(self, source: str, *, gives: Literal["truth", "number"] = "truth", shown: str | None = None) -> str:
        """The rule to run: the same, with whole numbers written as the fractions that features are.

        Raises:
            ValueError: A name is not known, or types do not fit.
        """
        written = shown or source
        has = _HAS_FEATURE.search(source) if self._known else None
        if has:
            raise ValueError(
                f"'{written}' asks has({has[1]}): every feature is there, and null where nothing is known;"
                f" write {has[1]} != null"
            )
        try:
            kind = self._kind(source)
        except ValueError as error:
            source = _INTEGER.sub(lambda part: part[1] or f"{part[2]}.0", source)
            try:
                kind = self._kind(source)
            except ValueError:
                hint = "; features are fractions: write 3.0, not 3" if "whole number" in str(error) else ""
                raise ValueError(f"'{written}': {error}{hint}") from error
        if kind != "DYN" and kind not in _RESULTS[gives]:
            wanted = "true or false" if gives == "truth" else "a number"
            raise ValueError(f"'{written}' gives {_readable(kind)}, must give {wanted}")
        return source

    def _kind(self, source: str) -> str:
        try:
            return str(self._environment.compile(source).return_type().name())
        except Exception as error:  # the checker raises RuntimeError for whatever is wrong
            said = str(error).split("ERROR: <input>:")[-1].splitlines()[0]
            place, _, sentence = said.partition(": ")
            column = place.split(":")[-1]
            raise ValueError(f"{_readable(sentence)} (at character {column})") from error


def _readable(sentence: str) -> str:
    """The checker's sentence in words that the catalogue uses."""
    sentence = sentence.replace(" (in container '')", "")
    for kind, word in (
        ("wrapper(double)", "number"), ("wrapper(string)", "text"), ("wrapper(bool)", "truth"),
        ("google.protobuf.DoubleValue", "a number"), ("double", "number"), ("int", "whole number"),
        ("string", "text"), ("STRING", "a text"), ("BOOL", "true or false"), ("DOUBLE", "a number"),
    ):  # fmt: skip
        sentence = re.sub(rf"(?<![\w.']){re.escape(kind)}(?![\w'])", word, sentence)
    return sentence.replace("undeclared reference to", "there is no feature or name")
