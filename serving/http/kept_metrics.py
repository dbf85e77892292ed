"""Metrics that are read from the ledger's database, and kept for a while between scrapes."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from prometheus_client.core import Metric

from decisioning.errors import NextmoveError


class KeptMetrics:
    """Read at the time of a scrape, at most every so many seconds; nothing where they cannot be read."""

    def __init__(self, read: Callable[[], list[Metric]], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def __call__(self) -> Iterator[Metric]:
        """The gauges."""
        if time.monotonic() - self._read_at >= self._seconds:
            self._metrics = []
            with suppress(NextmoveError):
                self._metrics = self._read()
            self._read_at = time.monotonic()
        return iter(self._metrics)
