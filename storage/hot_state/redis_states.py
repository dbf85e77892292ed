"""The states of features over events in Redis's hot state: a key an id and declarations.

What is to be written is worked out here (`StateChange`) and written by a script if what it was worked
out from still stands; else it is worked out again.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha1
from typing import Any

from decisioning.errors import StoreError
from decisioning.event_state import KeptStates
from decisioning.state_change import StateChange
from storage.hot_state.redis_bulk import bulk_client, run_together
from storage.hot_state.redis_connection import Command, address_of
from storage.hot_state.redis_scripts import PUT_STATE
from storage.hot_state.redis_values import Keys
from storage.hot_state.states import IN_USE, Replay
from storage.instants import to_microseconds
from storage.settings import Settings

# How often a state is worked out again because others were faster, before it is given up.
ATTEMPTS = 64
TOGETHER = 200
Conversation = Generator[Sequence[Command], Sequence[Any], None]


def read_commands(keys: Keys, digest: str, units: Sequence[str]) -> list[Command]:
    """What asks for the states of these ids, and whether they hold all that happened; see `states_in`."""
    return [*(("GET", keys.state(unit, digest)) for unit in units), ("HGET", keys.replay(digest), "complete")]


def states_in(units: Sequence[str], replies: Sequence[Any]) -> KeptStates:
    """What the replies say."""
    *blobs, complete = replies
    by_unit = {unit: blob for unit, blob in zip(units, blobs, strict=True) if blob is not None}
    return KeptStates(complete == b"1", by_unit)


def change_states(keys: Keys, change: StateChange, units: Sequence[str]) -> Conversation:
    """Add the events of these ids to their states; again, or in another order, the result is the same.

    Raises:
        StoreError: Others were faster time after time.
    """
    for _ in range(ATTEMPTS):
        blobs = yield [("GET", keys.state(unit, change.digest)) for unit in units]
        written: list[str] = []
        commands: list[Command] = []
        for unit, blob in zip(units, blobs, strict=True):
            new = change.of(unit, blob)
            if new is not None:
                before = "" if blob is None else sha1(blob).hexdigest()  # noqa: S324 (what scripts can compute)
                ends = "" if new.ends is None else to_microseconds(new.ends) // 1000
                written.append(unit)
                commands.append(("EVALSHA", PUT_STATE.sha, 1, keys.state(unit, change.digest), before, new.blob, ends))
        if not commands:
            return
        done = yield commands
        units = [unit for unit, was in zip(written, done, strict=True) if not was]
        if not units:
            return
    raise StoreError(f"what '{units[0]}' did was changed by others {ATTEMPTS} times at the same instant")


class RedisStates:
    """See `states.BulkStates`."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self._url = settings.redis_url
        self._address = address_of(settings.redis_url)
        self._keys = Keys(settings.redis_prefix, settings.domain)

    def change(self, change: StateChange) -> None:
        """See `BulkStates`."""
        with bulk_client(self._url, self._address) as client:
            client.script_load(PUT_STATE.source)
            for start in range(0, len(change.units), TOGETHER):
                steps = change_states(self._keys, change, change.units[start : start + TOGETHER])
                with suppress(StopIteration):
                    commands = next(steps)
                    while True:
                        commands = steps.send(run_together(client, commands))

    def replayed(self, digest: str) -> Replay:
        """See `BulkStates`."""
        with bulk_client(self._url, self._address) as client:
            said: Any = client.hgetall(self._keys.replay(digest))
            return Replay(int(said.get(b"upto", 0)), said.get(b"complete") == b"1")

    def note_replayed(self, digest: str, replay: Replay, *, now: datetime) -> None:
        """See `BulkStates`."""
        said = {"upto": replay.upto, "complete": int(replay.complete), "used": to_microseconds(now)}
        with bulk_client(self._url, self._address) as client:
            client.hset(self._keys.replay(digest), mapping=said)

    def say_in_use(self, digest: str, *, now: datetime) -> None:
        """See `BulkStates`."""
        with bulk_client(self._url, self._address) as client:
            client.hset(self._keys.replay(digest), "used", str(to_microseconds(now)))

    def unused(self, *, now: datetime) -> list[str]:
        """See `BulkStates`."""
        before, begin = to_microseconds(now - IN_USE), self._keys.replay("")
        with bulk_client(self._url, self._address) as client:
            found = client.scan_iter(match=f"{begin}*", count=1000)
            said: list[tuple[bytes, Any]] = [(key, client.hget(key, "used")) for key in found]
            return [key.decode().removeprefix(begin) for key, used in said if int(used or 0) <= before]

    def drop(self, digest: str) -> None:
        """See `BulkStates`."""
        with bulk_client(self._url, self._address) as client:
            # First: what is half dropped must not count as whole.
            client.delete(self._keys.replay(digest))
            chunk: list[bytes] = []
            for key in client.scan_iter(match=f"{self._keys.root}{{c:*", count=1000):
                if key.endswith(f"}}:states:{digest}".encode()):
                    chunk.append(key)
                if len(chunk) == TOGETHER:
                    client.unlink(*chunk)
                    chunk.clear()
            if chunk:
                client.unlink(*chunk)
