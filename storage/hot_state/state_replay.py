"""States of features over events made whole from the ledger's events, in the order of their arrival.

Adding an event again changes nothing, so events may come in live meanwhile, and a replay that died goes
on where it had said to be. Until it is at the end, states do not count as complete and features are
unknown. For some seconds after a release there still are services that add events to the states of the
declarations before; the last look at the ledger comes after that.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from decisioning.state_change import StateChange
from storage.hot_state.redis_states import RedisStates
from storage.hot_state.sqlite_states import SqliteStates
from storage.hot_state.states import BulkStates, Replay
from storage.ledger.reader import LedgerReader
from storage.released_features import ReleasedFeatures
from storage.settings import Settings


def open_states(settings: Settings) -> BulkStates:
    """The domain's states, where `settings.hot_state` says."""
    return RedisStates(settings) if settings.hot_state == "redis" else SqliteStates(settings)


def replay_states(
    settings: Settings,
    released: ReleasedFeatures,
    *,
    clock: Callable[[], datetime],
    anew: bool = False,
    goes_on: Callable[[int], bool] = lambda _done: True,
) -> bool:
    """Add all of the ledger's events to the states; whether these are complete.

    They are not where another process is at it, where `goes_on`, asked with the number of events after each
    part, says no, and until every service follows the declarations. Call it again then. `anew` forgets the
    states first, after waiting for whoever is at it.

    Raises:
        StoreError: A store cannot be used.
    """
    states, digest = open_states(settings), released.features.states.digest
    if states.replayed(digest).complete and not anew:
        return True
    with _alone(settings, wait=anew) as is_alone:
        if not is_alone:
            return False
        if anew:
            states.drop(digest)
        reached = states.replayed(digest)
        if reached.complete:
            return True
        is_followed, done = clock() >= released.followed_at, 0
        with closing(LedgerReader(settings)) as reader:
            for upto, events in reader.events_behind(
                settings.domain, after=reached.upto, names=released.features.events
            ):
                states.change(StateChange(released.features, events, now=clock()))
                done += len(events)
                reached = Replay(upto)
                states.note_replayed(digest, reached, now=clock())
                if not goes_on(done):
                    return False
        if is_followed:
            states.note_replayed(digest, reached._replace(complete=True), now=clock())
        return is_followed


@contextmanager
def _alone(settings: Settings, *, wait: bool) -> Iterator[bool]:
    """Whether no other process replays into the states, and none will until the end."""
    with (settings.home / "states.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
