"""Hot state that is lost comes back from the ledger as it was."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from decisioning.catalog import ContactPolicy
from decisioning.profile import Consent, Contact, HotProfile
from decisioning.reservation import AlreadyClaimed
from storage.consents import record_consents
from storage.hot_state.rebuild import needs_rebuild, open_hot_state, rebuild
from storage.hot_state.schema import SCHEMA_VERSION, connect
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.consents import append_consents
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import NOW, consent, decision, outcome, slot
from tests.storage.test_hot_state import reservation

CUSTOMERS = [f"c-{number}" for number in range(8)]
ACTIONS = [("card", "cards"), ("loan", "loans"), ("no_action", "none"), ("fund", "savings")]
TYPES = ["impression", "click", "sent", "not_sent", "bounce", "unsubscribe", "open", "purchase", "complaint"]


def pick(rng: np.random.Generator, *options: str) -> str:
    return options[rng.integers(len(options))]


async def random_traffic(settings: Settings, hot: SqliteHotState, ledger: Ledger, rng: np.random.Generator) -> datetime:
    """40 days of decisions, outcomes (late, repeated, hard bounces) and changes of consent; returns the end."""
    made: list[tuple[str, str, str]] = []
    caps = (ContactPolicy("cap", limit=4, within=timedelta(days=7)),)
    now = NOW
    for number in range(400):
        now += timedelta(minutes=float(rng.integers(1, 288)))
        customer_id, channel = pick(rng, *CUSTOMERS), pick(rng, "web", "email")
        request = reservation(
            f"d-{number}",
            customer_id=customer_id,
            now=now,
            channel=channel,
            candidates=tuple(Contact(action_id, group, channel, now) for action_id, group in ACTIONS),
            order=tuple(rng.permutation(len(ACTIONS)).tolist()),
            slots=int(rng.integers(1, 4)),
            policies=caps,
            confirmed=bool(rng.random() < 0.2),
        )
        filled = await hot.reserve(request)
        assert not isinstance(filled, AlreadyClaimed)
        slots = tuple(
            slot(ACTIONS[f.chosen][0], slot=place, group=ACTIONS[f.chosen][1], confirmed=request.confirmed)
            for place, f in enumerate(filled, start=1)
        )
        record = decision(f"d-{number}", customer_id=customer_id, channel=channel, decided_at=now, slots=slots)
        await ledger.append_decision(record, digest="a")
        made += [(record.decision_id, customer_id, channel) for _ in slots]
        for _ in range(rng.integers(3)):
            decision_id, whose, where = made[-1 - int(rng.integers(min(len(made), 20)))] if made else ("", "", "")
            told = outcome(
                f"o-{rng.integers(500)}",
                decision_id=decision_id,
                action_id=None if rng.random() < 0.1 else pick(rng, "card", "loan", "fund"),
                type=pick(rng, *TYPES),
                detail=pick(rng, "hard", "soft", "machine"),
                occurred_at=now - timedelta(hours=float(rng.integers(48))),
            )
            [status] = await ledger.append_outcomes([(told, repr(told))])
            if status != "conflict":
                await hot.apply(whose, told, where)
        if rng.random() < 0.1:
            at = now - timedelta(days=float(rng.integers(3)))
            change = consent(customer_id, channel=channel, granted=bool(rng.random() < 0.7), at=at)
            record_consents(settings, hot, [change])
    return now


def everything(hot: SqliteHotState, end: datetime) -> dict[tuple[str, int], HotProfile]:
    """What can be seen of every customer, at several instants."""

    async def read() -> dict[tuple[str, int], HotProfile]:
        return {
            (customer_id, days): await hot.read(customer_id, now=end + timedelta(days=days))
            for customer_id in CUSTOMERS
            for days in (0, 3, 12)
        }

    return asyncio.run(read())


def test_after_random_traffic_the_rebuilt_state_equals_the_live_one(settings: Settings) -> None:
    hot, ledger = SqliteHotState(settings), Ledger(settings)
    end = asyncio.run(random_traffic(settings, hot, ledger, np.random.default_rng(7)))
    ledger.close()
    live = everything(hot, end)
    assert sum(len(profile.contacts) for profile in live.values()) > 30
    assert any(profile.consents for profile in live.values())
    assert 0 < sum(len(profile.suppressed) for profile in live.values()) < 2 * len(live)

    said: list[str] = []
    rebuild(settings, now=end, progress=said.append)
    assert everything(hot, end) == live, "refilled in place, under an open connection"
    assert said[-1].startswith("hot state rebuilt from ")

    hot.close()
    settings.hot_path.unlink()
    assert needs_rebuild(settings)
    anew = open_hot_state(settings, now=end)
    assert everything(anew, end) == live, "made anew"
    anew.close()


def test_nothing_is_to_be_rebuilt_at_the_first_start(settings: Settings) -> None:
    assert not needs_rebuild(settings)


def test_consents_alone_are_worth_a_rebuild(settings: Settings) -> None:
    hot = SqliteHotState(settings)
    record_consents(settings, hot, [consent()])
    assert not needs_rebuild(settings)
    hot.close()
    settings.hot_path.unlink()

    assert needs_rebuild(settings)
    assert asyncio.run(open_hot_state(settings, now=NOW).read("c-1", now=NOW)).consents


def test_every_domain_comes_back_by_itself(settings: Settings, ledger: Ledger) -> None:
    other = replace(settings, domain="hillstrom")
    append_consents(settings, [consent()])
    append_consents(other, [consent(purpose="personalisation"), consent(channel="sms", granted=False)])
    asyncio.run(ledger.append_decision(decision("d-1"), digest="a"))
    asyncio.run(ledger.append_decision(decision("d-2", domain="hillstrom", channel="sms"), digest="a"))
    gone = outcome(decision_id="d-2", type="complaint", occurred_at=NOW, action_id=None)
    asyncio.run(ledger.append_outcomes([(gone, "a")]))

    rebuild(settings, now=NOW + timedelta(minutes=2))

    soon = NOW + timedelta(minutes=3)
    ours, theirs = (asyncio.run(SqliteHotState(each).read("c-1", now=soon)) for each in (settings, other))
    assert (ours.consents, ours.suppressed, len(ours.contacts)) == ((Consent("marketing", "email"),), (), 1)
    assert (theirs.consents, theirs.suppressed) == ((Consent("personalisation", "email"),), ("sms",))
    assert [contact.channel for contact in theirs.contacts] == ["sms"]


@pytest.mark.parametrize("down_for", [timedelta(minutes=1), timedelta(days=2)])
def test_a_withdrawal_that_hot_state_never_heard_of_counts_from_the_next_start(
    down_for: timedelta, settings: Settings, ledger: Ledger
) -> None:
    hot = SqliteHotState(settings)
    record_consents(settings, hot, [consent(at=NOW - timedelta(days=1))])
    hot.close()
    asyncio.run(ledger.append_decision(decision(channel="email"), digest="a"))
    long_ago = outcome("o-0", type="open", received_at=NOW - timedelta(days=9))
    asyncio.run(ledger.append_outcomes([(long_ago, "a"), (outcome(type="unsubscribe", action_id=None), "a")]))

    profile = asyncio.run(open_hot_state(settings, now=NOW + down_for).read("c-1", now=NOW))

    assert (profile.consents, profile.suppressed) == ((), ("email",))


def test_a_start_leaves_the_outcomes_of_other_domains_to_them(settings: Settings, ledger: Ledger) -> None:
    SqliteHotState(settings).close()
    asyncio.run(ledger.append_decision(decision(channel="email", domain="hillstrom"), digest="a"))
    asyncio.run(ledger.append_outcomes([(outcome(type="unsubscribe"), "a")]))

    assert asyncio.run(open_hot_state(settings, now=NOW).read("c-1", now=NOW)).suppressed == ()


def test_a_damaged_hot_state_is_replaced(settings: Settings, ledger: Ledger) -> None:
    asyncio.run(ledger.append_decision(decision(decided_at=NOW), digest="a"))
    settings.hot_path.write_bytes(b"not a database" * 1000)
    settings.hot_path.with_name("hot.db-wal").write_bytes(b"left behind")
    assert needs_rebuild(settings)

    hot = open_hot_state(settings, now=NOW + timedelta(minutes=1))

    assert len(asyncio.run(hot.read("c-1", now=NOW + timedelta(minutes=1))).contacts) == 1


def test_hot_state_of_an_older_schema_is_made_anew(settings: Settings) -> None:
    append_consents(settings, [consent()])
    with closing(sqlite3.connect(settings.hot_path)) as connection:
        connection.execute("CREATE TABLE consents (customer_id TEXT)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    assert needs_rebuild(settings)

    hot = open_hot_state(settings, now=NOW)

    assert asyncio.run(hot.read("c-1", now=NOW)).consents == (Consent("marketing", "email"),)


def test_hot_state_from_before_the_machine_last_started_is_not_trusted(settings: Settings) -> None:
    SqliteHotState(settings).close()
    connection = connect(settings.hot_path)
    connection.execute("UPDATE written_since SET boot_id = 'another'")
    connection.close()
    assert needs_rebuild(settings)

    rebuild(settings, now=NOW)

    assert not needs_rebuild(settings)


def test_nobody_waits_while_the_ledger_is_read_and_what_they_do_meanwhile_stays(
    settings: Settings, ledger: Ledger
) -> None:
    hot = SqliteHotState(settings)
    at = NOW - timedelta(hours=1)
    asyncio.run(ledger.append_decision(decision(channel="email", decided_at=at), digest="a"))

    def meanwhile(_message: str) -> None:
        told = outcome(type="unsubscribe")
        asyncio.run(ledger.append_outcomes([(told, "a")]))
        asyncio.run(hot.apply("c-1", told, "email"))
        asyncio.run(hot.reserve(reservation("d-2", confirmed=True)))

    rebuild(settings, now=NOW, progress=meanwhile)

    profile = asyncio.run(hot.read("c-1", now=NOW))
    assert [contact.at for contact in profile.contacts] == [at, NOW]
    assert profile.suppressed == ("email",)
    assert not settings.hot_path.with_name("hot.db.new").exists()


def test_a_place_whose_decision_is_still_on_its_way_survives_the_rebuild(settings: Settings) -> None:
    hot = SqliteHotState(settings)
    asyncio.run(hot.reserve(reservation()))

    rebuild(settings, now=NOW + timedelta(seconds=30))
    assert len(asyncio.run(hot.read("c-1", now=NOW + timedelta(seconds=30))).contacts) == 1

    rebuild(settings, now=NOW + timedelta(minutes=2))
    assert asyncio.run(hot.read("c-1", now=NOW + timedelta(minutes=2))).contacts == ()
