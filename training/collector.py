"""The cyclic garbage collector, kept off while millions of objects are made that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No cycle is looked for meanwhile; what nothing refers to is freed at once, as ever.

    Every so many new objects the collector walks all that there are: of reading a ledger into examples that
    was 40 % of the time.

    >>> with paused():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
