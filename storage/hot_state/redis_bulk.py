"""Redis outside the event loop: a client that waits, for many commands at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from redis import Redis, RedisError

from decisioning.errors import StoreError
from storage.hot_state.redis_connection import Address, Command

BULK_PATIENCE = timedelta(seconds=30)


@contextmanager
def bulk_client(url: str, address: Address) -> Iterator[Redis]:
    """A client that waits, for work outside the event loop.

    Raises:
        StoreError: Redis cannot be used.
    """
    client = Redis.from_url(url, socket_timeout=BULK_PATIENCE.total_seconds())
    try:
        yield client
    except RedisError as error:
        raise StoreError(f"hot state in Redis at {address.shown} cannot be used: {error}") from error
    finally:
        client.close()


def run_together(client: Redis, commands: Iterable[Command]) -> list[Any]:
    """The replies to many commands, sent in one go."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    return pipeline.execute()
