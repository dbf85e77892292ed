"""Hot state in Redis: for replicas on several machines.

The rules are judged in Python, by `reservation.take`, and what comes of it is written by a script
if nobody has changed the customer or the account meanwhile; else it says how they are now and it is
judged again. So one call is one round trip, except where decisions for one customer collide, where a
lease of a budget is used up (`redis_budgets`), where an outcome settles a budget's charge, and where a customer
who is read is one person with others.

Redis may lose what it knows, and what it does not know must not pass for what is not so: nobody consented
to less, or was contacted less often, because a server came back empty. So every read and reservation asks
for the mark of a finished rebuild; without it nothing is answered (`StoreError`), and `on_loss` is called.
Redis must not evict: `maxmemory-policy noeviction`. What an outcome owes a budget is noted in the contact
until the budget has heard of it, so telling it again repairs a call that died half-way.

Two differences from SQLite. A claim is the customer's: the same decision id for another customer is
refused by the ledger, not here. And a charge is noted as pending in a step of its own.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import hiredis
import msgspec

from decisioning.content import Budget
from decisioning.content_types import CONTACT_MEMORY
from decisioning.errors import StoreError
from decisioning.event_state import KeptStates
from decisioning.events import Happened, latest
from decisioning.identity import Link
from decisioning.preferences import PreferencesChange
from decisioning.profile import BudgetLeft, ConsentChange, Contact, HotProfile, Subject
from decisioning.record import Told
from decisioning.reservation import AlreadyClaimed, ReservationRequest, Reserved, take, with_contacts
from decisioning.state_change import StateChange
from storage.hot_state.charges import MILLIONTHS, millionths, of_everyone, with_room
from storage.hot_state.effects import effects_of
from storage.hot_state.redis_budgets import LEASED_FOR, Leases, settle_command, settled_command
from storage.hot_state.redis_bulk import bulk_client, run_together
from storage.hot_state.redis_changes import (
    apply_command,
    cleared_commands,
    consent_command,
    happened_commands,
    preferences_command,
)
from storage.hot_state.redis_connection import Address, Command, Connection, ReplyLost, address_of, packed
from storage.hot_state.redis_identity import link_ids
from storage.hot_state.redis_scripts import ABANDON, ALL, CONSENT, HAPPEN, REMOVE, RESERVE, Script
from storage.hot_state.redis_states import change_states, read_commands, states_in
from storage.hot_state.redis_values import (
    CONTACT_SECONDS,
    Keys,
    charge_of,
    contact_field,
    contact_value,
    instant,
    mark_in,
    member_prefix,
    paused_in,
    profile_of,
    settlements_in,
    united,
)
from storage.hot_state.reserving import CLAIM_KEPT, is_abandoned
from storage.id_digests import id_digests
from storage.ledger.reader import LedgerReader
from storage.settings import Settings

# How often a reservation is judged anew because others were faster, before it is given up.
ATTEMPTS = 64
CHANGES_TOGETHER = 500
Change = TypeVar("Change")
# What a server says that is no longer, or not yet, the one to talk to.
_ANOTHER_SERVER = ("READONLY", "LOADING", "MASTERDOWN")
_SOURCES = {script.sha: script.source for script in ALL}
_CLAIM_SECONDS = int(CLAIM_KEPT.total_seconds())


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    """Who claimed an id, and the contacts that came of it."""

    digest: str
    at: datetime
    fields: tuple[str, ...]


_encode_claim = msgspec.msgpack.Encoder().encode
_decode_claim = msgspec.msgpack.Decoder(_Claim).decode


def _clock() -> datetime:
    return datetime.now(UTC)


class RedisHotState:
    """One domain's hot state; one of these per process, used from one event loop at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = _clock,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is connected yet; `rebuild.open_hot_state` fills it first.

        By `clock`, claims are stamped and judged, and a request whose own `now` is in the far future
        makes nothing old. `on_loss` is called, on the event loop, whenever Redis lacks what the ledger has.

        Raises:
            SetupError: `redis_url` is no address of a Redis.
        """
        self._url = settings.redis_url
        self._address: Address = address_of(settings.redis_url)
        self._keys = Keys(settings.redis_prefix, settings.domain)
        self._digests = id_digests(settings)
        self._ledger = LedgerReader(settings)
        self._clock = clock
        self._connection: Connection | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._leases = Leases(self._keys, clock=clock)
        self._lease_watch: asyncio.AbstractEventLoop | None = None
        self._on_loss = on_loss
        self._ask_paused = packed(("SMEMBERS", self._keys.paused))
        # As last told, and what that says.
        self._members: list[bytes] | None = None
        self._paused: tuple[str, ...] = ()
        self._mark: bytes | None = None
        self._is_lost = False

    @property
    def problem(self) -> str | None:
        """What is wrong with it as last met, for people; None where nothing is."""
        if not self._is_lost:
            return None
        return (
            f"hot state in Redis at {self._address.shown} has lost what it knew and is rebuilt from the ledger;"
            " until then only fallbacks are shown"
        )

    async def read(
        self,
        subject: Subject,
        *,
        now: datetime,
        budgets: Sequence[Budget] = (),
        at: datetime | None = None,
        states: str | None = None,
    ) -> HotProfile:
        """All that is true of this customer, and what is left `at` a time (`now`) of budgets that are everyone's.

        `states` are those that are read too, by their digest.

        Raises:
            StoreError: Redis cannot be read, or has lost what it knew.
        """
        at = at or now
        keys = self._keys
        commands: list[Command] = [
            ("HGETALL", keys.customer(subject.customer_id)),
            self._ask_paused,
            ("SISMEMBER", keys.erased, self._digests.of(subject.customer_id)),
        ]
        if subject.account_id is not None:
            commands.append(("HGETALL", keys.account(subject.account_id)))
        counted = of_everyone(budgets) if budgets else []
        asked = self._leases.to_ask(counted, now=now, at=at) if counted else []
        commands += [command for _, command in asked]
        if states is not None:
            commands += read_commands(keys, states, (subject.customer_id,))
        replies = await self._call(commands)
        kept = None
        if states is not None:
            replies, kept = replies[:-2], states_in((subject.customer_id,), replies[-2:])
        paused = self._paused_of(replies[1])
        account = replies[3] if subject.account_id is not None else []
        if replies[2]:
            profile = HotProfile(paused=paused, erased=True)
        else:
            profile = profile_of(replies[0], account, subject, paused, now=now)
        if profile.person is not None:
            profile = await self._united(profile, replies[0], account, subject, now=now, states=states, kept=kept)
        elif kept is not None:
            profile = msgspec.structs.replace(profile, states=kept)
        if not counted:
            return profile
        for (budget, _), reply in zip(asked, replies[len(replies) - len(asked) :], strict=True):
            self._leases.answered(budget, reply, at=at)
        self._watch_leases()
        return msgspec.structs.replace(profile, budgets=tuple(self._leases.room(counted, now=at)))

    async def reserve(self, request: ReservationRequest) -> Reserved | AlreadyClaimed:
        """Claim the decision's id, see what is available at this instant, and take it.

        A claim of the same body that left no record within 5 s is taken over, its contacts replaced.

        Raises:
            StoreError: Redis cannot be written, or others were faster time after time.
        """
        counted = of_everyone(request.budgets.values())
        if not counted:
            return await self._reserve(request, request.seen, counted)
        held = await self._hold(request, counted)
        sources = {budget.id: self._leases.source(budget, at=request.at) for budget in counted}
        room = [BudgetLeft(name, (amount and amount + request.slots / 2) / MILLIONTHS) for name, amount in held.items()]
        seen = msgspec.structs.replace(request.seen, budgets=with_room(request.seen, room))
        # As long as it is not sure what was written, all that is held counts as charged.
        back = dict.fromkeys(held, 0)
        try:
            reserved = await self._reserve(request, seen, counted)
            back = dict(held)
            if isinstance(reserved, Reserved):
                for _, contact in request.new_contacts(reserved.filled):
                    if contact.budget in back:
                        back[contact.budget] -= millionths(contact.cost)
        except (ReplyLost, asyncio.CancelledError):
            raise
        except BaseException:
            back = dict(held)
            raise
        finally:
            for budget in counted:
                amount = max(0, back[budget.id])
                self._leases.give_back(budget, amount, at=request.at, source=sources[budget.id])
                if self._is_connected:
                    self._send(self._leases.spare(budget, at=request.at))
            self._watch_leases()
        if isinstance(reserved, AlreadyClaimed):
            return reserved
        known = with_room(request.seen, self._leases.room(counted, now=request.at))
        return reserved._replace(profile=msgspec.structs.replace(reserved.profile, budgets=known))

    async def apply(self, told: Told) -> None:
        """Let an outcome change contacts, consent, purchases and events; again changes nothing.

        Raises:
            StoreError: Redis cannot be written; tell it again.
        """
        for part, effect in effects_of(told):
            if effect.state is None and not effect.lasts:
                continue
            [changed] = await self._call([apply_command(self._keys, part, effect)])
            customer_id = part.subject.customer_id
            due = list(settlements_in(customer_id, changed))
            if due:
                await self._call([settle_command(self._keys, each) for each in due])
                self._send(cleared_commands(self._keys, customer_id, due))

    async def note(self, happened: Sequence[Happened], states: StateChange | None = None) -> None:
        """Let what customers did elsewhere count from the next decision on; again changes nothing.

        Raises:
            StoreError: Redis cannot be written; tell it again.
        """
        commands: Sequence[Command] = list(happened_commands(self._keys, happened))
        if states is None or not states.units:
            if commands:  # to nothing there is no reply
                await self._call(commands)
            return
        first = len(commands)
        steps = change_states(self._keys, states, states.units)
        with suppress(StopIteration):
            commands = [*commands, *next(steps)]
            while True:
                commands = steps.send((await self._call(commands))[first:])
                first = 0

    async def link(self, links: Sequence[Link]) -> None:
        """Let ids be one person from the next decision on; again changes nothing.

        Raises:
            StoreError: Redis cannot be written; tell it again.
        """
        steps = link_ids(self._keys, links)
        with suppress(StopIteration):
            commands = next(steps)
            while True:
                commands = steps.send(await self._call(commands))

    async def consent(self, changes: Sequence[ConsentChange]) -> None:
        """Let the last word count from the next decision on, by the time at which it was said; again changes nothing.

        Raises:
            StoreError: Redis cannot be written; tell it again.
        """
        await self._call([consent_command(self._keys, change) for change in changes])

    async def prefer(self, change: PreferencesChange) -> None:
        """Let the last word count from the next decision on, likewise.

        Raises:
            StoreError: Redis cannot be written; tell it again.
        """
        await self._call([preferences_command(self._keys, change)])

    async def pause(self, action: str, *, paused: bool) -> None:
        """Stop an action from the next decision on, or let it go on.

        Raises:
            StoreError: Redis cannot be written.
        """
        await self._call([("SADD" if paused else "SREM", self._keys.paused, action)])

    async def bury(self, names: Collection[str], *, erased: bool = True) -> None:
        """Let these ids be erased from the next call on, or no longer; again changes nothing.

        Raises:
            StoreError: Redis cannot be written.
        """
        digests = self._digests.by_digest(names)
        if digests:
            await self._call([("SADD" if erased else "SREM", self._keys.erased, *digests)])

    def set_consents(self, changes: Iterable[ConsentChange]) -> None:
        """Let the last word count, by the time at which it was said.

        In many short parts, so that answers need not wait; for bulk work, not for the event loop.
        Again changes nothing.

        Raises:
            StoreError: Redis cannot be written; do it again, since some changes may be missing.
        """
        self._in_parts(changes, CONSENT, lambda chunk: [consent_command(self._keys, change) for change in chunk])

    def note_in_bulk(self, happened: Iterable[Happened]) -> None:
        """What `note` does, in many short parts; for bulk work, not for the event loop.

        Raises:
            StoreError: Redis cannot be written; do it again, since some of it may be missing.
        """
        self._in_parts(latest(happened), HAPPEN, lambda chunk: happened_commands(self._keys, chunk))

    def _in_parts(
        self, changes: Iterable[Change], script: Script, commands: Callable[[list[Change]], Iterable[Command]]
    ) -> None:
        rest = iter(changes)
        with bulk_client(self._url, self._address) as client:
            client.script_load(script.source)
            while chunk := list(islice(rest, CHANGES_TOGETHER)):
                run_together(client, commands(chunk))

    def close(self) -> None:
        """Give back all leases and hang up, before the event loop is closed; the next call connects again."""
        back = self._leases.all_ended()
        if back:
            # Where Redis is gone, the leases stay with the budgets until their next period.
            with suppress(StoreError), bulk_client(self._url, self._address) as client:
                run_together(client, back)
        self._hang_up()
        self._ledger.close()

    async def _reserve(
        self, request: ReservationRequest, seen: HotProfile, counted: Sequence[Budget]
    ) -> Reserved | AlreadyClaimed:
        """Judge and write, until nobody was faster."""
        keys, subject, profile = self._keys, request.subject, seen
        customer = keys.customer(subject.customer_id)
        touched = [customer, keys.claim(subject.customer_id, request.decision_id)]
        if subject.account_id is not None:
            touched.append(keys.account(subject.account_id))
        called = member_prefix(subject.customer_id)
        oldest = instant(min(request.now, self._clock()) - CONTACT_MEMORY)
        shared = {budget.id for budget in counted}
        for _ in range(ATTEMPTS):
            filled = take(request, profile)
            made = request.new_contacts(filled)
            claim = _encode_claim(
                _Claim(request.digest, self._clock(), tuple(contact_field(c.decision_id, c.action_id) for _, c in made))
            )
            written: list[str | bytes] = []
            for slot, contact in made:
                kind = "b" if contact.budget in shared else "-"
                written.append(contact_field(contact.decision_id, contact.action_id))
                written.append(
                    contact_value(contact, slot, subject.account_id, confirmed=request.confirmed, charged=kind)
                )
            members = profile.person.members if profile.person else ()
            others = [keys.customer(one) for one in members if one != subject.customer_id]
            which = 0 if subject.account_id is None else 3
            known = (profile.version, claim, _CLAIM_SECONDS, CONTACT_SECONDS, called, oldest, which)
            all_keys = (*touched, *others)
            reply, paused = await self._call(
                [("EVALSHA", RESERVE.sha, len(all_keys), *all_keys, *known, *written), self._ask_paused]
            )
            self._paused_of(paused)
            if isinstance(reply, int):
                if not request.confirmed and shared:
                    self._note_pending(subject.customer_id, made, shared)
                if made:
                    profile = with_contacts(profile, [contact for _, contact in made], version=reply)
                return Reserved(filled, profile)
            if isinstance(reply, bytes):
                claimed = _decode_claim(reply)
                abandoned = claimed.digest == request.digest and is_abandoned(claimed.at, now=self._clock())
                if not abandoned or self._ledger.contains(request.decision_id):
                    return AlreadyClaimed(claimed.digest, claimed.at)
                await self._abandon(touched, called, reply, claimed, subject.customer_id)
                continue
            fresh = profile_of(reply[0], reply[1], subject, (), now=request.now)
            if fresh.person is not None:
                fresh = await self._united(fresh, reply[0], reply[1], subject, now=request.now)
            profile = msgspec.structs.replace(fresh, budgets=seen.budgets, paused=seen.paused)
        raise StoreError(
            f"customer '{subject.customer_id}' was changed by others {ATTEMPTS} times while a decision was reserved"
        )

    async def _united(
        self,
        profile: HotProfile,
        own: list[bytes],
        account: list[bytes],
        subject: Subject,
        *,
        now: datetime,
        states: str | None = None,
        kept: KeptStates | None = None,
    ) -> HotProfile:
        """The profile of the whole person, after one more round trip for the other members.

        `kept` are the subject's own states, if those of a digest are read.
        """
        assert profile.person is not None
        others = [one for one in profile.person.members if one != subject.customer_id]
        commands: list[Command] = [("HGETALL", self._keys.customer(one)) for one in others]
        if states is not None:
            commands += read_commands(self._keys, states, others)
        replies = await self._call(commands)
        hashes = replies[: len(others)]
        together = united({subject.customer_id: own, **dict(zip(others, hashes, strict=True))}, profile.person.id)
        whole = profile_of(together, account, subject, profile.paused, now=now)
        if states is None or kept is None:
            return whole
        theirs = states_in(others, replies[len(others) :])
        everything = KeptStates(kept.complete and theirs.complete, kept.by_unit | theirs.by_unit)
        return msgspec.structs.replace(whole, states=everything)

    async def _abandon(self, touched: Sequence[str], called: str, raw: bytes, claim: _Claim, customer_id: str) -> None:
        """Let go of what a caller left that died, unless somebody else was faster."""
        [changed] = await self._call([("EVALSHA", ABANDON.sha, len(touched), *touched, raw, called, *claim.fields)])
        due = list(settlements_in(customer_id, changed))
        if due:
            await self._call([settle_command(self._keys, each) for each in due])
        await self._call([("EVALSHA", REMOVE.sha, 2, *touched[:2], raw, *claim.fields)])
        self._send([settled_command(self._keys, each) for each in due])

    async def _hold(self, request: ReservationRequest, counted: Sequence[Budget]) -> dict[str, int]:
        """What this decision may charge at most, taken out of the leases, as far as there is so much."""
        held: dict[str, int] = {}
        wanted: dict[str, int] = {}
        asked: list[tuple[Budget, Command]] = []
        for budget in counted:
            charges = sorted(
                millionths(each.proposal.cost)
                for each in request.eligible
                if each.repeats is None and each.proposal.action.budget == budget.id
            )
            wanted[budget.id] = sum(charges[-request.slots :])
            held[budget.id], question = self._leases.hold(
                budget, max(charges, default=0), wanted[budget.id], now=request.now, at=request.at
            )
            if question is not None:
                asked.append((budget, question))
        if asked:
            sources = {budget.id: self._leases.source(budget, at=request.at) for budget in counted}
            try:
                *replies, paused = await self._call([*(question for _, question in asked), self._ask_paused])
                self._paused_of(paused)
            except BaseException:
                for budget in counted:
                    self._leases.give_back(budget, held[budget.id], at=request.at, source=sources[budget.id])
                raise
            for (budget, _), reply in zip(asked, replies, strict=True):
                self._leases.answered(budget, reply, at=request.at)
                if self._leases.source(budget, at=request.at) != sources[budget.id]:
                    held[budget.id] = 0  # of a lease that was lost meanwhile
                rest = wanted[budget.id] - held[budget.id]
                held[budget.id] += self._leases.hold(budget, 0, rest, now=request.now, at=request.at)[0]
        return held

    def _note_pending(self, customer_id: str, made: Iterable[tuple[int, Contact]], shared: Collection[str]) -> None:
        notes = []
        for _, contact in made:
            charge = charge_of(contact, customer_id, kind="b") if contact.budget in shared else None
            if charge is not None and contact.until is not None:
                notes.append(self._leases.pending(charge, contact.until))
        self._send(notes)

    async def _call(self, commands: Sequence[Command]) -> list[Any]:
        """The replies; a script that Redis does not have yet is sent in full.

        Raises:
            StoreError: Redis did not do it. `ReplyLost`: perhaps it did.
        """
        connection = self._connection
        if connection is None or not connection.is_open or connection.loop is not asyncio.get_running_loop():
            connection = await self._connect()
        replies = await connection.call(commands)
        for place, reply in enumerate(replies):
            if isinstance(reply, hiredis.ReplyError):
                if not str(reply).startswith("NOSCRIPT"):
                    if str(reply).startswith(_ANOTHER_SERVER):
                        connection.close()
                    raise StoreError(f"hot state in Redis at {self._address.shown} refuses: {reply}")
                command = commands[place]
                [replies[place]] = await self._call([("EVAL", _SOURCES[str(command[1])], *command[2:])])
        return replies

    def _paused_of(self, members: list[bytes]) -> tuple[str, ...]:
        """The paused actions, after seeing that Redis knows all that it should.

        Raises:
            StoreError: It has lost it; somebody else may believe that nobody was ever contacted.
        """
        if members == self._members:
            return self._paused
        mark = mark_in(members)
        # What is spent was counted anew, or is about to be; leases are in neither.
        if self._mark is not None and mark != self._mark:
            self._leases.drop_all()
        self._mark, self._is_lost, self._members = mark, mark is None, members
        if mark is None:
            self._members = None
            if self._on_loss is not None:
                self._on_loss()
            raise StoreError(str(self.problem))
        self._paused = paused_in(members)
        return self._paused

    @property
    def _is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_open

    def _send(self, commands: Sequence[Command]) -> None:
        """Without waiting; what gets lost stays charged to a budget until its next period."""
        if commands and self._connection is not None and self._connection.is_open:
            self._connection.send(commands)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening[0] is not loop:
            self._opening = (loop, asyncio.Lock())
        async with self._opening[1]:
            connection = self._connection
            if connection is None or not connection.is_open or connection.loop is not loop:
                self._hang_up()
                connection = self._connection = await Connection.open(self._address)
        return connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.loop.is_running():
            connection.loop.call_soon_threadsafe(connection.close)  # whoever stops the service may be another thread
        elif connection is not None and not connection.loop.is_closed():
            connection.close()

    def _watch_leases(self) -> None:
        """See to it that unused leases end even where nobody calls any more."""
        loop = asyncio.get_running_loop()
        if self._lease_watch is not loop and self._leases.any_open:
            self._lease_watch = loop
            loop.call_later(LEASED_FOR.total_seconds(), self._end_leases)

    def _end_leases(self) -> None:
        self._lease_watch = None
        if self._is_connected:
            self._send(self._leases.ended())
        self._watch_leases()
