"""What columns hold, found out from all of their values: numbers, truths, lists, or else texts."""

import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from decisioning.content_types import FeatureKind
from decisioning.errors import DataError
from storage.data_mapping import KEYS, CustomerColumns, FeatureColumn, feature_column
from storage.mapping_parts import Column, is_empty
from storage.row_files import FileRow
from storage.row_values import NUMBER

Features = dict[str, FeatureColumn]  # by name; with column and type once they are known
_CODE = re.compile(r"[-+]?0\d")  # 01234 is a postcode, 0.5 is none


def named_features(mapping: CustomerColumns) -> Features | None:
    """The features that a mapping names with their types; None where rows have to tell."""
    features = {name: feature_column(name, said) for name, said in mapping.features.items()}
    return features if features and all(each.type is not None for each in features.values()) else None


def found_features(
    rows: Iterable[FileRow], features: Features, *, decimal: str, but: Collection[Column] | None = None
) -> Features:
    """The features, each with what the rows tell of it; a column that is always empty is a text.

    With `but`, also every column of the rows that is not among these.

    Raises:
        DataError: There is none, or two would have one name.
    """
    found = dict(features)
    met: dict[str, set[FeatureKind]] = {name: set() for name in found}
    others = None if but is None else set(but)
    columns: Collection[str] = ()
    for row in rows:
        if others is not None and row.mistake is None and row.values.keys() != columns:
            columns = row.values.keys()
            for column in columns:
                if column not in others:
                    others.add(column)
                    name = _free_name(column, found)
                    found[name], met[name] = FeatureColumn(column=column), set()
        for name, each in found.items():
            if each.type is None and len(met[name]) < 2 and "text" not in met[name]:
                said = row.values.get(each.column or name)
                if not is_empty(said) and not is_missing(said, each):
                    met[name].add(_kind(said, decimal))
    if not found:
        raise DataError("no column is left to be a feature; a row must say more of a customer than the id")
    return {
        name: msgspec.structs.replace(
            each, type=each.type or (next(iter(met[name])) if len(met[name]) == 1 else "text")
        )
        for name, each in found.items()
    }


def _free_name(column: Column, found: Features) -> str:
    name = feature_name(column)
    if name in found or name in KEYS:
        raise DataError(
            f"the column '{column}' would be the feature '{name}', which is taken; name the columns under `features`,"
            " or this one under `leave_out`"
        )
    return name


def feature_name(column: Column) -> str:
    """What a rule can call a column.

    >>> feature_name("emp.var.rate"), feature_name("2nd order")
    ('emp_var_rate', '_2nd_order')
    """
    name = re.sub(r"\W", "_", column, flags=re.ASCII)
    return f"_{name}" if name[:1].isdigit() or not name else name


def is_missing(said: Any, column: FeatureColumn) -> bool:
    """Whether the mapping says that this value stands for nothing.

    >>> is_missing(" 999", FeatureColumn(missing=(999,)))
    True
    """
    return bool(column.missing) and str(said).strip() in map(str, column.missing)


def _kind(said: Any, decimal: str) -> FeatureKind:
    if isinstance(said, bool):
        return "truth"
    if isinstance(said, int | float | Decimal):
        return "number"
    if isinstance(said, list | tuple):
        return "texts"
    text = str(said).strip()
    if text.lower() in ("true", "false"):
        return "truth"
    plain = text if decimal == "." else text.replace(".", "?").replace(decimal, ".")
    return "number" if NUMBER.fullmatch(plain) and not _CODE.match(plain) else "text"
