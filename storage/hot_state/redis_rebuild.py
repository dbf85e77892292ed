"""Redis's hot state anew from the ledger: aside first, then each customer in one step.

Beside each key `{...}` the new one is made under `new:{...}` and takes its place: at no instant does
a customer have less than before. Services may run meanwhile. What is spent of budgets is counted anew
from the ledger, without what decisions are charging just then, so a budget may be overspent by that:
rebuild a running service when little is going on. The mark of the rebuild comes last: without one,
services answer with fallbacks, and with another one they drop what they leased before.
"""

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from redis import Redis

from decisioning.errors import StoreError
from decisioning.identity import Link
from storage.hot_state.effects import effects_of
from storage.hot_state.history import (
    NEWEST_EVENTS,
    NEWEST_WORDS,
    UNDER_WAY,
    is_worth_a_rebuild,
    kept_contacts,
    kept_happened,
    kept_links,
    kept_outcomes,
    kept_pauses,
)
from storage.hot_state.redis_budgets import settle_command
from storage.hot_state.redis_bulk import bulk_client, run_together
from storage.hot_state.redis_changes import (
    apply_command,
    cleared_commands,
    consent_command,
    happened_commands,
    preferences_command,
)
from storage.hot_state.redis_connection import Command, address_of
from storage.hot_state.redis_identity import link_ids
from storage.hot_state.redis_scripts import ALL, CLEAR, MARK, REPLACE
from storage.hot_state.redis_values import (
    CONTACT_SECONDS,
    MARK_BEGIN,
    Charge,
    Keys,
    charge_of,
    contact_field,
    contact_value,
    instant,
    mark_in,
    member_prefix,
    settlements_in,
)
from storage.instants import to_microseconds
from storage.ledger.reader import EVERY_WORD, LastWords, LedgerReader
from storage.settings import Settings

Progress = Callable[[str], None]
Item = TypeVar("Item")
TOGETHER = 500
# Who completes it says at least this often that it is still alive.
ALIVE_FOR = timedelta(seconds=60)
OTHERS_MAY_TAKE = timedelta(minutes=30)
_QUARTER = 15 * 60 * 1_000_000


def needs_rebuild(settings: Settings) -> bool:
    """Whether Redis lacks what the ledger has: it is empty, or of another schema.

    Raises:
        StoreError: Redis cannot be used.
    """
    keys = Keys(settings.redis_prefix, settings.domain)
    with bulk_client(settings.redis_url, address_of(settings.redis_url)) as client:
        if _is_complete(client, keys):
            return False
        reader = LedgerReader(settings)
        try:
            if is_worth_a_rebuild(reader, settings.domain):
                return True
        finally:
            reader.close()
        _mark(client, keys, secrets.token_hex(8), anew=False)
        return False


def rebuild(settings: Settings, reader: LedgerReader, *, now: datetime, progress: Progress, anyway: bool) -> None:
    """Make the domain's hot state anew; one replica at a time, and unless `anyway` only if it still must be."""
    keys, aside = (Keys(settings.redis_prefix, domain) for domain in (settings.domain, f"{settings.domain}:new"))
    with bulk_client(settings.redis_url, address_of(settings.redis_url)) as client, alone(client, keys) as alive:
        if not anyway and _is_complete(client, keys):
            return  # another replica was faster
        for script in ALL:
            client.script_load(script.source)
        for chunk in _chunks(client.scan_iter(match=f"{aside.root}*", count=TOGETHER)):
            client.delete(*chunk)  # what somebody left who died
        _Rebuild(client, keys, aside, alive).run(settings, reader, now, progress)


def _is_complete(client: Redis, keys: Keys) -> bool:
    paused: Any = client.smembers(keys.paused)
    return mark_in(paused) is not None


def _mark(client: Redis, keys: Keys, run_id: str, *, anew: bool) -> None:
    """Say that all is there; `anew` even where somebody has said so already."""
    client.eval(MARK.source, 1, keys.paused, MARK_BEGIN, MARK_BEGIN + run_id, int(anew))


def reapply(settings: Settings, reader: LedgerReader, *, now: datetime, received_since: datetime) -> None:
    """Make sure of the domain's newest outcomes, events and words of customers, and of its pauses."""
    keys = Keys(settings.redis_prefix, settings.domain)
    with bulk_client(settings.redis_url, address_of(settings.redis_url)) as client:
        for script in ALL:
            client.script_load(script.source)
        _apply_live(client, keys, settings, reader, now, received_since, newest=NEWEST_EVENTS)
        newest = _words(keys, reader, settings.domain, after=reader.last_words().before(NEWEST_WORDS))
        for chunk in _chunks(newest):
            run_together(client, chunk)
        commands: list[Command] = [
            ("SADD", keys.paused, action) for _, action in kept_pauses(reader, domain=settings.domain)
        ]
        commands += _erased(keys, reader, settings.domain)
        run_together(client, commands)


def _apply_live(
    client: Redis,
    keys: Keys,
    settings: Settings,
    reader: LedgerReader,
    now: datetime,
    received_since: datetime,
    *,
    newest: int | None = None,
) -> None:
    rest = kept_outcomes(reader, now=now, domain=settings.domain, received_since=received_since)
    while chunk := [part for addressed in islice(rest, TOGETHER) for part in effects_of(addressed.told)]:
        replies = run_together(client, [apply_command(keys, told, effect) for told, effect in chunk])
        for (told, _), reply in zip(chunk, replies, strict=True):
            customer_id = told.subject.customer_id
            due = list(settlements_in(customer_id, reply))
            if due:
                run_together(client, [settle_command(keys, each) for each in due])
                run_together(client, cleared_commands(keys, customer_id, due))
    others = kept_happened(reader, domain=settings.domain, received_since=received_since, newest=newest)
    while events := list(islice(others, TOGETHER)):
        run_together(client, happened_commands(keys, events))
    for links in _chunks(kept_links(reader, domain=settings.domain, received_since=received_since, newest=newest)):
        _link(client, keys, links, anew=True)


def _link(client: Redis, keys: Keys, links: Sequence[Link], *, anew: bool) -> None:
    steps = link_ids(keys, links, anew=anew)
    with suppress(StopIteration):
        commands = next(steps)
        while True:
            commands = steps.send(run_together(client, commands))


def _words(keys: Keys, reader: LedgerReader, domain: str, *, after: LastWords = EVERY_WORD) -> Iterator[Command]:
    """What lets Redis take consents and preferences that customers said behind a place of the ledger."""
    yield from (consent_command(keys, change) for change in reader.consents(domain, after=after.consents))
    yield from (preferences_command(keys, change) for change in reader.preferences(domain, after=after.preferences))


def _erased(keys: Keys, reader: LedgerReader, domain: str) -> Iterator[Command]:
    return (("SADD", keys.erased, digest) for _, digest in reader.erased(domain))


class _Rebuild:
    """One run: what is made aside, and what budgets have spent, which is counted here."""

    def __init__(self, client: Redis, keys: Keys, aside: Keys, alive: Callable[[], None]) -> None:
        self._client = client
        self._keys = keys
        self._aside = aside
        self._alive = alive
        self._run_id = secrets.token_hex(8)
        self._spent: dict[str, Counter[int]] = defaultdict(Counter)
        self._pending: dict[str, dict[str, tuple[Charge, int]]] = defaultdict(dict)

    def run(self, settings: Settings, reader: LedgerReader, now: datetime, progress: Progress) -> None:
        said = reader.last_words()
        # States of features are made whole by a replay of their own.
        for chunk in _chunks(self._client.scan_iter(match=f"{self._keys.replay('')}*", count=TOGETHER)):
            self._client.delete(*chunk)
        self._write(_words(self._aside, reader, settings.domain))
        contacts = self._put_contacts(settings, reader, now, progress)
        outcomes = self._apply_outcomes(settings, reader, now)
        self._note_happened(settings, reader)
        self._link(settings, reader)
        progress(f"hot state rebuilt from {contacts} contacts and {outcomes} outcomes")
        self._take_over(now)
        self._put_budgets(now)
        for _, action in kept_pauses(reader, domain=settings.domain):
            self._client.sadd(self._keys.paused, action)
        _apply_live(self._client, self._keys, settings, reader, now, now - UNDER_WAY)
        self._write(_words(self._keys, reader, settings.domain, after=said))
        self._write(_erased(self._keys, reader, settings.domain))
        _mark(self._client, self._keys, self._run_id, anew=True)

    def _put_contacts(self, settings: Settings, reader: LedgerReader, now: datetime, progress: Progress) -> int:
        own = (kept for kept in kept_contacts(reader, now=now) if kept.domain == settings.domain)
        written = 0
        while chunk := list(islice(own, TOGETHER)):
            commands: list[Command] = []
            for kept in chunk:
                contact, (customer_id, account_id) = kept.contact, kept.subject
                charge = charge_of(contact, customer_id, kind="h")
                field = contact_field(contact.decision_id, contact.action_id)
                value = contact_value(
                    contact, kept.slot, account_id, confirmed=kept.confirmed, charged="h" if charge else "-"
                )
                commands.append(("HSET", self._aside.customer(customer_id), field, value))
                if account_id is not None:
                    member = member_prefix(customer_id) + field
                    commands.append(("HSET", self._aside.account(account_id), member, value))
                if charge is not None:
                    self._spent[charge.budget][charge.at // _QUARTER * _QUARTER] += charge.amount
                    if not kept.confirmed and contact.until is not None:
                        until = to_microseconds(contact.until)
                        self._pending[charge.budget][charge.name] = charge, until
            self._write(iter(commands))
            written += len(chunk)
            if written % 10_000 < TOGETHER <= written:
                progress(f"{written} contacts")
        return written

    def _apply_outcomes(self, settings: Settings, reader: LedgerReader, now: datetime) -> int:
        rest, applied = kept_outcomes(reader, now=now, domain=settings.domain), 0
        while chunk := [part for addressed in islice(rest, TOGETHER) for part in effects_of(addressed.told)]:
            commands = [apply_command(self._aside, told, effect) for told, effect in chunk]
            cleared: list[Command] = []
            for (told, _), changed in zip(chunk, run_together(self._client, commands), strict=True):
                customer = self._aside.customer(told.subject.customer_id)
                for due in settlements_in(told.subject.customer_id, changed):
                    if due.before != due.state:  # else it was met a moment ago
                        self._pending[due.charge.budget].pop(due.charge.name, None)
                        if due.state == "x":
                            self._give_back(due.charge)
                    cleared.append(("EVALSHA", CLEAR.sha, 1, customer, due.field, due.state))
            run_together(self._client, cleared)
            self._alive()
            applied += len(chunk)
        return applied

    def _note_happened(self, settings: Settings, reader: LedgerReader) -> None:
        rest = kept_happened(reader, domain=settings.domain)
        while events := list(islice(rest, TOGETHER)):
            run_together(self._client, happened_commands(self._aside, events))
            self._alive()

    def _link(self, settings: Settings, reader: LedgerReader) -> None:
        for links in _chunks(kept_links(reader, domain=settings.domain)):
            _link(self._client, self._aside, links, anew=False)
            self._alive()

    def _give_back(self, charge: Charge) -> None:
        self._spent[charge.budget][charge.at // _QUARTER * _QUARTER] -= charge.amount

    def _take_over(self, now: datetime) -> None:
        """Put everything that was made aside in its place; live keys without it keep what is under way."""
        since = instant(now - UNDER_WAY)
        for root in (self._keys.root, self._aside.root):
            found = self._client.scan_iter(match=f"{root}{{*", count=TOGETHER)
            hashes = (name for name in (key.decode()[len(root) :] for key in found) if _is_hash(name))
            rest = (since, self._run_id, CONTACT_SECONDS)
            self._write(
                ("EVALSHA", REPLACE.sha, 2, self._keys.root + name, self._aside.root + name, *rest) for name in hashes
            )

    def _put_budgets(self, now: datetime) -> None:
        at = to_microseconds(now)
        # At once: a lease of a budget whose history is not there yet would be one of the whole amount.
        together = self._client.pipeline(transaction=True)
        for key in self._client.scan_iter(match=f"{self._keys.root}{{b:*", count=TOGETHER):
            together.delete(key)
        for budget in self._spent:
            ran_out = [charge for charge, until in self._pending[budget].values() if until <= at]
            for charge in ran_out:
                self._give_back(charge)
                del self._pending[budget][charge.name]
            key, pending, history, settled = self._keys.budget(budget)
            together.delete(key, pending, history, settled)  # one may have come since
            spent = {str(quarter): amount for quarter, amount in self._spent[budget].items() if amount}
            if spent:
                together.hset(history, mapping=spent)
            waiting = {charge.name: until for charge, until in self._pending[budget].values()}
            if waiting:
                together.zadd(pending, waiting)
        together.execute()

    def _write(self, commands: Iterator[Command]) -> None:
        for chunk in _chunks(commands):
            run_together(self._client, chunk)
            self._alive()


def _is_hash(name: str) -> bool:
    """Whether a key, without its root, is a customer's or an account's hash, and not a claim beside it."""
    return name[:3] in ("{c:", "{a:") and name.index("}") == len(name) - 1


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, TOGETHER)):
        yield chunk


@contextmanager
def alone(client: Redis, keys: Keys) -> Iterator[Callable[[], None]]:
    """Alone among replicas; yields what must be called now and then to stay so."""
    token, deadline = secrets.token_hex(16), time.monotonic() + OTHERS_MAY_TAKE.total_seconds()
    while not client.set(keys.rebuilding, token, nx=True, ex=ALIVE_FOR):
        if time.monotonic() > deadline:
            raise StoreError(f"another replica is rebuilding hot state and does not end; see the key {keys.rebuilding}")
        time.sleep(0.2)

    def alive() -> None:
        if client.get(keys.rebuilding) != token.encode():
            raise StoreError("another replica has taken over rebuilding hot state; this one was away for too long")
        client.expire(keys.rebuilding, ALIVE_FOR)

    try:
        yield alive
    finally:
        if client.get(keys.rebuilding) == token.encode():
            client.delete(keys.rebuilding)
