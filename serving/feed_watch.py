"""Writes down what sources tell, and says when one has stopped. Its thread keeps both off the event loop."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from decisioning.errors import StoreError
from decisioning.feeds import HISTORY, HOUR, watched
from serving.feeds import FeedTally
from storage.ledger.feed_counts import FeedCounts

logger = logging.getLogger(__name__)
# What a crash loses of the counts at most, and how old a last event may seem.
WRITE_SECONDS = 5.0


class FeedWatch:
    """Writes a tally into the ledger every few seconds, and judges every source once an hour.

    Attributes:
        last_heard: When each source was heard of last, by any process.
        silent: Sources that are silent, or one of whose feeds is.
    """

    def __init__(self, tally: FeedTally, counts: FeedCounts, *, time_zone: Callable[[], str]) -> None:
        self._tally = tally
        self._counts = counts
        self._time_zone = time_zone
        self.last_heard: Mapping[str, datetime] = {}
        self.silent: frozenset[str] = frozenset()
        self._judged: datetime | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeds", daemon=True)

    def start(self) -> None:
        """Watch until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and let go of the ledger."""
        self._stopping.set()
        self._thread.join()
        self.write()
        self._counts.close()

    def write(self) -> None:
        """Write the counts down; what cannot be written now is kept for the next time."""
        taken = self._tally.take()
        try:
            self._counts.add(taken)
        except StoreError as error:
            self._tally.give_back(taken)
            logger.warning("counts of feeds wait: %s", error.message)

    def look(self, *, now: datetime) -> None:
        """See who was heard of last, and once an hour who has stopped.

        Raises:
            StoreError: The ledger cannot be read.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        since = hour - (HOUR if self._judged else HISTORY)
        self.last_heard = {**self.last_heard, **self._counts.last_heard(since=since)}
        if hour == self._judged:
            return
        arrived = self._counts.read(since=hour - HISTORY - HOUR, what=("received",))
        feeds = (
            feed
            for whole in (True, False)
            for feed in watched(arrived, now=now, time_zone=self._time_zone(), whole_sources=whole)
        )
        self.silent = frozenset(gap.source for feed in feeds for gap in feed.gaps if gap.until is None)
        self._judged = hour

    def _run(self) -> None:
        while True:
            try:
                self.write()
                self.look(now=datetime.now(UTC))
            except Exception as error:  # whatever it is, it must not end the thread that counts
                logger.error("feeds cannot be judged: %r", error)
            if self._stopping.wait(WRITE_SECONDS):
                return
