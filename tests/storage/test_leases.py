"""One process at a time has a lease, and a dead one has none."""

import os
import signal
import socket
from datetime import UTC, datetime, timedelta

import pytest

from decisioning.errors import LeaseLost, SetupError
from storage.instants import to_microseconds
from storage.leases import TERM, held
from storage.ledger.database import open_ledger, writing
from storage.ledger.tables import leases
from storage.settings import Settings
from tests.storage.processes import Say, others

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def taken_by(settings: Settings, holder: str, *, until: datetime) -> None:
    engine = open_ledger(settings)
    with writing(engine) as connection:
        connection.execute(leases.delete())
        connection.execute(leases.insert().values(name="n", holder=holder, until=to_microseconds(until)))
    engine.dispose()


def test_what_one_has_nobody_else_gets_until_it_is_given_back(settings: Settings) -> None:
    with held(settings, "n", what="promotion") as lease:
        lease.check()
        with (
            pytest.raises(SetupError, match=f"another promotion is running \\(process {os.getpid()} on "),
            held(settings, "n", what="promotion"),
        ):
            pass
        with held(settings, "another", what="promotion"):
            pass
    with held(settings, "n", what="promotion"):
        pass


def test_a_holder_elsewhere_that_renews_no_more_loses_it_when_it_runs_out(settings: Settings) -> None:
    taken_by(settings, "elsewhere/1/x", until=NOW)
    with (
        pytest.raises(SetupError, match="if it is dead, from 12:00:00 UTC on"),
        held(settings, "n", what="promotion", clock=lambda: NOW - timedelta(seconds=1)),
    ):
        pass
    with held(settings, "n", what="promotion", clock=lambda: NOW) as lease:
        lease.check()


def test_a_holder_that_was_killed_on_this_machine_loses_it_at_once(settings: Settings) -> None:
    def take_and_die(say: Say) -> None:
        with held(settings, "n", what="promotion"):
            say("has it")
            os.kill(os.getpid(), signal.SIGKILL)

    with others(take_and_die) as [(process, lines)]:
        assert lines.read() == "has it\n"
        process.join()
        with held(settings, "n", what="promotion"):
            pass


def test_of_processes_that_ask_at_once_one_gets_it(settings: Settings) -> None:
    def ask(say: Say) -> None:
        try:
            with held(settings, "n", what="promotion"):
                say("has it")
                signal.pause()
        except SetupError:
            say("refused")

    with others(*[ask] * 3) as askers:
        said = sorted(lines.readline() for _, lines in askers if lines)
    assert said == ["has it\n", "refused\n", "refused\n"]


def test_who_stood_still_for_too_long_is_told(settings: Settings) -> None:
    with held(settings, "n", what="promotion") as lease:
        taken_by(settings, f"{socket.gethostname()}x/1/x", until=NOW + TERM)
        lease.renew()
        with pytest.raises(LeaseLost, match="was lost to another process"):
            lease.check()


def test_a_holder_that_renews_keeps_it(settings: Settings) -> None:
    at = [NOW]
    with held(settings, "n", what="promotion", clock=lambda: at[0]) as lease:
        at[0] = NOW + TERM - timedelta(seconds=1)
        lease.renew()
        later = NOW + TERM + timedelta(seconds=30)
        with pytest.raises(SetupError), held(settings, "n", what="promotion", clock=lambda: later):
            pass
