"""A load generator for one service on this machine: keep-alive connections, as little work a call as Python allows.

Bounded in calls and time. Its own share of a core is part of every figure that is taken with it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from decisioning.errors import SetupError

_encode = msgspec.json.encode


class Load(NamedTuple):
    """What a load met: seconds of each call in order, how long it took in all, and the generator's CPU seconds."""

    seconds: list[float]
    wall: float
    cpu: float


class Caller:
    """One connection.

    Raises (everywhere): `ConnectionError` and `asyncio.IncompleteReadError` where the service is gone.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str) -> "Caller":
        """Connect."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader, writer, parts.netloc)

    async def post(self, path: str, body: object) -> tuple[int, bytes]:
        """Status and body of the answer."""
        content = _encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        self._writer.write(head.encode() + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        _, _, length = answer.partition(b"content-length:")
        return int(answer[9:12]), await self._reader.readexactly(int(length.split(b"\r\n", 1)[0]))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def drive(url: str, path: str, bodies: Callable[[int], object], *, connections: int, seconds: float) -> Load:
    """Call after call on each of the connections, until the time is over.

    Raises:
        SetupError: The service answered with something else than success.
    """
    ends = time.perf_counter() + seconds
    numbers: Iterator[int] = iter(range(10**9))
    taken: list[float] = []

    async def caller() -> None:
        connection = await Caller.open(url)
        for number in numbers:
            body = bodies(number)
            began = time.perf_counter()
            status, answer = await connection.post(path, body)
            taken.append(time.perf_counter() - began)
            if status >= 300:
                raise SetupError(f"{path} answered {status}: {answer[:300].decode(errors='replace')}")
            if time.perf_counter() > ends:
                break
        connection.close()

    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as together:
        for _ in range(connections):
            together.create_task(caller())
    return Load(taken, time.perf_counter() - began, time.process_time() - cpu)
