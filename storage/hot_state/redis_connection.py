"""A thin pipeliner: all commands of one turn of the event loop go to Redis in one write.

`redis.asyncio` costs 100 us a call. Here a call is one future and a place in a queue: replies come
in the order of the commands. A connection that dies takes the calls in flight with it, each with
`StoreError`: whether Redis has done what they asked is not known, so nothing is sent again.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import hiredis
from redis.connection import parse_url

from decisioning.errors import SetupError, StoreError

# Redis answers in well under a millisecond; whoever waits this long had better fall back.
PATIENCE = timedelta(seconds=1)
Command = tuple[bytes | str | int | float, ...] | bytes  # with its arguments; or `packed`


class Address(NamedTuple):
    """Where Redis is and how it is opened."""

    shown: str  # without the password
    host: str
    port: int
    path: str | None
    tls: bool
    greeting: tuple[Command, ...]


def address_of(url: str) -> Address:
    """The address in a URL (`redis://`, `rediss://` or `unix://`).

    >>> address_of("redis://:secret@cache:6380/2").greeting
    (('AUTH', 'secret'), ('SELECT', 2))

    Raises:
        SetupError: It is no address of a Redis.
    """
    try:
        parts = parse_url(url)  # type: ignore[no-untyped-call]
        split = urlsplit(url)
    except ValueError as error:
        raise SetupError(f"the setting redis_url cannot be used: {error}", where="redis_url") from error
    greeting: list[Command] = []
    if parts.get("password"):
        user = (parts["username"],) if parts.get("username") else ()
        greeting.append(("AUTH", *user, parts["password"]))
    if parts.get("db"):
        greeting.append(("SELECT", int(parts["db"])))
    return Address(
        shown=f"{split.scheme}://{split.hostname or ''}{f':{split.port}' if split.port else ''}{split.path}",
        host=str(parts.get("host", "localhost")),
        port=int(parts.get("port", 6379)),
        path=parts.get("path"),
        tls=split.scheme == "rediss",
        greeting=tuple(greeting),
    )


def packed(command: Command) -> bytes:
    """The command as it is sent, for one that is sent often."""
    return command if isinstance(command, bytes) else hiredis.pack_command(cast(Any, command))


class ReplyLost(StoreError):
    """The connection died, or nothing was said in time: whether Redis did it is not known."""


class Connection(asyncio.Protocol):
    """One connection to Redis, for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address) -> None:
        self.loop = loop
        self.is_open = False
        self._shown = address.shown
        self._transport: asyncio.Transport | None = None
        self._parser = hiredis.Reader(notEnoughData=_MORE)
        self._out: list[bytes] = []
        self._calls: deque[_Call] = deque()
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, address: Address) -> "Connection":
        """Connect and greet.

        Raises:
            StoreError: Redis cannot be reached, or lets nobody in.
        """
        loop = asyncio.get_running_loop()
        connection = cls(loop, address)
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: connection, address.path)
                else:
                    context = ssl.create_default_context() if address.tls else None
                    await loop.create_connection(lambda: connection, address.host, address.port, ssl=context)
        except (OSError, TimeoutError) as error:
            raise StoreError(f"Redis at {address.shown} cannot be reached: {str(error) or 'no answer'}") from error
        if address.greeting:
            for reply in await connection.call(address.greeting):
                if isinstance(reply, hiredis.ReplyError):
                    connection.close()
                    raise StoreError(f"Redis at {address.shown} refuses: {reply}")
        return connection

    def call(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        """The replies to these commands, errors among them, once all are there."""
        out = [packed(command) for command in commands]  # all of them, or none is sent
        call = _Call(self.loop.create_future(), len(commands), [], self.loop.time())
        if not self.is_open:
            call.done.set_exception(StoreError(self._failure("the connection is closed")))
            return call.done
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out += out
        self._calls.append(call)
        if self._watch is None:
            self._watch = self.loop.call_later(PATIENCE.total_seconds(), self._look)
        return call.done

    def send(self, commands: Sequence[Command]) -> None:
        """Let Redis do this, now, without waiting for what it says."""
        self.call(commands).add_done_callback(_forget)
        self._flush()

    def close(self) -> None:
        """Hang up; calls in flight fail."""
        if self._transport is not None:
            self._transport.abort()
        self._end("the connection was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Redis is there."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Give every reply that is complete to the call that waits for it."""
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _MORE:
                call = self._calls[0]
                call.replies.append(reply)
                if len(call.replies) == call.expected:
                    self._calls.popleft()
                    if not call.done.done():  # its caller may have been cancelled
                        call.done.set_result(call.replies)
        except (hiredis.ProtocolError, IndexError) as error:
            self._end(f"what it says cannot be understood: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis is gone, and with it the answers."""
        self._end(str(exc) if exc else "it hung up")

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _look(self) -> None:
        """Hang up where the oldest call has waited too long."""
        self._watch = None
        if not self._calls:
            return
        ends = self._calls[0].since + PATIENCE.total_seconds()
        if ends <= self.loop.time():
            self._end(f"no answer within {PATIENCE.total_seconds():g} s")
        else:
            self._watch = self.loop.call_at(ends, self._look)

    def _end(self, reason: str) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._out.clear()
        calls, self._calls = self._calls, deque()
        for call in calls:
            if not call.done.done():
                call.done.set_exception(ReplyLost(self._failure(reason)))

    def _failure(self, reason: str) -> str:
        return f"hot state in Redis at {self._shown} cannot be used: {reason}"


class _Call(NamedTuple):
    done: "asyncio.Future[list[Any]]"
    expected: int
    replies: list[Any]
    since: float


_MORE = cast(Any, object())


def _forget(done: "asyncio.Future[list[Any]]") -> None:
    """An error that nobody waits for is not an error that nobody noticed."""
    if not done.cancelled():
        done.exception()
