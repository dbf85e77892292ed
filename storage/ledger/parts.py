"""Many names in a few queries."""

from collections.abc import Iterable

_NAMES_PER_QUERY = 500


def parts(names: Iterable[str]) -> list[list[str]]:
    """The names in order, as many at a time as one query takes.

    >>> parts({"b", "a"})
    [['a', 'b']]
    """
    listed = sorted(names)
    return [listed[begin : begin + _NAMES_PER_QUERY] for begin in range(0, len(listed), _NAMES_PER_QUERY)]
