"""Leases: what one process at a time may do, on whichever machine, kept in the ledger's database.

A holder renews its lease while it works. One that dies renews no more, so its lease runs out after `TERM`;
on the machine where it died at once. Clocks of machines that share a ledger must agree to a few seconds.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select

from decisioning.errors import LeaseLost, SetupError, StoreError
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.tables import leases
from storage.settings import Settings

TERM = timedelta(seconds=60)
Clock = Callable[[], datetime]


def _clock() -> datetime:
    return datetime.now(UTC)


class Lease:
    """A lease that this process took."""

    def __init__(self, engine: Engine, name: str, holder: str, clock: Clock) -> None:
        self._engine = engine
        self._name = name
        self._holder = holder
        self._clock = clock

    def check(self) -> None:
        """Make sure that it is still ours: a process that was stopped for long may have lost it.

        Raises:
            LeaseLost: It is another's.
            StoreError: The ledger cannot be read.
        """
        with reading(self._engine) as connection:
            found = connection.execute(select(leases.c.holder).where(leases.c.name == self._name)).scalar()
        if found != self._holder:
            raise LeaseLost(f"the lease on '{self._name}' was lost to another process while this one stood still")

    def renew(self) -> None:
        """Keep it for another `TERM`, if nobody has taken it over.

        Raises:
            StoreError: The ledger cannot be written.
        """
        ours = (leases.c.name == self._name) & (leases.c.holder == self._holder)
        with writing(self._engine) as connection:
            connection.execute(leases.update().where(ours).values(until=to_microseconds(self._clock() + TERM)))

    def give_back(self) -> None:
        """Let the next one have it at once; what cannot be given back runs out."""
        with suppress(StoreError), writing(self._engine) as connection:
            connection.execute(leases.delete().where((leases.c.name == self._name) & (leases.c.holder == self._holder)))


@contextmanager
def held(settings: Settings, name: str, *, what: str, clock: Clock = _clock) -> Iterator[Lease]:
    """The lease, taken, renewed in the background and given back.

    Args:
        settings: Where the ledger is.
        name: Of the lease.
        what: What only one does at a time, for people: `another <what> is running`.
        clock: Tells the time.

    Raises:
        SetupError: Another process has it.
        StoreError: The ledger cannot be written.
    """
    engine = open_ledger(settings)
    lease = Lease(engine, name, f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}", clock)
    done = threading.Event()
    try:
        _take(engine, name, lease._holder, what, clock())
        keeper = threading.Thread(target=_keep, args=(lease, done), name=f"lease {name}", daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            done.set()
            keeper.join()
            lease.give_back()
    finally:
        engine.dispose()


def holder_of(settings: Settings, name: str, *, now: datetime) -> str | None:
    """Who has the lease, in words; None where nobody does.

    Raises:
        StoreError: The ledger cannot be read.
    """
    engine = open_ledger(settings)
    try:
        with reading(engine) as connection:
            found = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    finally:
        engine.dispose()
    return None if found is None or _is_free(found.holder, from_microseconds(found.until), now) else _said(found.holder)


def _is_free(holder: str, until: datetime, now: datetime) -> bool:
    return until <= now or _died_here(holder)


def _said(holder: str) -> str:
    machine, process, _ = holder.rsplit("/", 2)
    return f"process {process} on {machine}"


def _take(engine: Engine, name: str, holder: str, what: str, now: datetime) -> None:
    with writing(engine) as connection:
        found = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
        if found is not None and not _is_free(found.holder, from_microseconds(found.until), now):
            raise SetupError(
                f"another {what} is running ({_said(found.holder)}); run this again when it has ended:"
                f" if it is dead, from {from_microseconds(found.until):%H:%M:%S} UTC on"
            )
        until = to_microseconds(now + TERM)
        if found is None:
            connection.execute(leases.insert().values(name=name, holder=holder, until=until))
        else:
            connection.execute(leases.update().where(leases.c.name == name).values(holder=holder, until=until))


def _keep(lease: Lease, done: threading.Event) -> None:
    while not done.wait(TERM.total_seconds() / 4):
        with suppress(StoreError):  # a ledger that is away for a while: `check` tells what came of it
            lease.renew()


def _died_here(holder: str) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    machine, process, _ = holder.rsplit("/", 2)
    if machine != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
