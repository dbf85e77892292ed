"""What Redis's hot state holds on a person: shown, and erased."""

import secrets
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis import Redis

from decisioning.identity import Person, Ties
from decisioning.profile import Contact, Subject
from decisioning.record import OutcomeRecord, Told
from storage.hot_state.effects import effects_of
from storage.hot_state.redis_budgets import settle_command
from storage.hot_state.redis_bulk import bulk_client, run_together
from storage.hot_state.redis_changes import apply_command, cleared_commands
from storage.hot_state.redis_connection import Command, address_of
from storage.hot_state.redis_identity import STAYS
from storage.hot_state.redis_rebuild import alone
from storage.hot_state.redis_scripts import ALL, LINK
from storage.hot_state.redis_values import PERSON, TIES, Keys, account_in, contact_in, member_prefix, settlements_in
from storage.settings import Settings

TOGETHER = 500
_encode = msgspec.msgpack.Encoder().encode
_decode_ties = msgspec.msgpack.Decoder(Ties).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode


def parts(settings: Settings, units: Collection[str]) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Everything that is kept of these ids, key by key."""
    keys = Keys(settings.redis_prefix, settings.domain)
    with bulk_client(settings.redis_url, address_of(settings.redis_url)) as client:
        for key in _keys_of(client, keys, units):
            yield "keys", iter([{"key": key.decode(), "holds": _plain(client, key)}])


def erase(settings: Settings, units: Collection[str], *, linked: Collection[str]) -> int:
    """Delete everything of these ids, and how many keys there were; again finds nothing.

    What was charged to budgets for good stays; what was only reserved is given back. `linked` as in SQLite.
    """
    keys, aside = (Keys(settings.redis_prefix, domain) for domain in (settings.domain, f"{settings.domain}:new"))
    address = address_of(settings.redis_url)
    done = 0
    with bulk_client(settings.redis_url, address) as client, alone(client, keys):
        for script in ALL:
            client.script_load(script.source)
        for unit in units:
            _release(client, keys, unit)
            _leave_accounts(client, keys, unit)
        own = _keys_of(client, keys, units)
        leftovers = list(client.scan_iter(match=f"{aside.root}*", count=TOGETHER))  # of a rebuild that died
        if own or leftovers:
            client.delete(*own, *leftovers)
        done += len(own)
        done += _rename_charges(client, keys, units)
        done += sum(_unlink(client, keys, one, units) for one in linked)
    return done


def _keys_of(client: Redis, keys: Keys, units: Collection[str]) -> list[bytes]:
    """The customers' hashes, and whatever stands beside them."""
    begins = tuple(keys.customer(unit).encode() for unit in units)
    beside = client.scan_iter(match=f"{keys.root}{{c:*}}:*", count=TOGETHER)
    found = [key for key in beside if key.startswith(tuple(begin + b":" for begin in begins))]
    return sorted({*found, *(begin for begin in begins if client.exists(begin))})


def _contacts(client: Redis, keys: Keys, unit: str) -> dict[bytes, bytes]:
    fields: Any = client.hgetall(keys.customer(unit))
    return {name: value for name, value in fields.items() if name.startswith(b"c") and len(name) > 1}


def _release(client: Redis, keys: Keys, unit: str) -> None:
    """Let go of what is reserved and was not shown, as if it had not been sent."""
    now = datetime.now(UTC)
    for value in _contacts(client, keys, unit).values():
        if not value.startswith(b"r"):
            continue
        contact: Contact = contact_in(value)
        not_sent = OutcomeRecord(
            outcome_id="", decision_id=contact.decision_id, action_id=contact.action_id, type="not_sent", detail=None,
            value=None, occurred_at=now, received_at=now,
        )  # fmt: skip
        told = Told(
            outcome=not_sent,
            subject=Subject(unit),
            channel=contact.channel,
            contacts=((contact.decision_id, contact.action_id),),
            products=(),
        )
        for part, effect in effects_of(told):
            [changed] = run_together(client, [apply_command(keys, part, effect)])
            due = list(settlements_in(unit, changed))
            run_together(client, [settle_command(keys, each) for each in due])
            if due:
                run_together(client, cleared_commands(keys, unit, due))


def _leave_accounts(client: Redis, keys: Keys, unit: str) -> None:
    """Take the customer's contacts out of the accounts; those of others stay."""
    accounts: dict[str, list[bytes]] = {}
    for name, value in _contacts(client, keys, unit).items():
        tagged = account_in(value)
        if tagged:
            accounts.setdefault(f"{keys.accounts}{tagged}}}", []).append(member_prefix(unit).encode() + name)
    commands: list[Command] = []
    for key, names in accounts.items():
        commands += [("HDEL", key, *names), ("HINCRBY", key, "v", 1)]
    run_together(client, commands)


def _rename_charges(client: Redis, keys: Keys, units: Collection[str]) -> int:
    """Charges that still wait for their time name the customer: from now on, nobody."""
    marks = [f":{member_prefix(unit)}".encode() for unit in units]
    done = 0
    for key in client.scan_iter(match=f"{keys.root}{{b:*}}:pending", count=TOGETHER):
        for name, until in list(client.zscan_iter(key)):
            if any(mark in name for mark in marks):
                kind, at, amount, _ = name.split(b":", 3)
                nobody = b"%b:%b:%b:erased:%b" % (kind, at, amount, secrets.token_hex(8).encode())
                run_together(client, [("ZADD", key, until, nobody), ("ZREM", key, name)])
                done += 1
    for key in client.scan_iter(match=f"{keys.root}{{b:*}}:settled", count=TOGETHER):
        for name in list(client.hkeys(key)):  # type: ignore[arg-type]
            if any(mark in name for mark in marks):
                done += int(client.hdel(key, name))  # type: ignore[arg-type]
    return done


def _unlink(client: Redis, keys: Keys, one: str, units: Collection[str]) -> int:
    """Somebody else's ties without these ids, unless another link was faster: then the next sweep finds it."""
    read: Any = client.hmget(keys.customer(one), [TIES.decode(), PERSON.decode()])
    if read[0] is None:
        return 0
    ties, person = _decode_ties(read[0]), None if read[1] is None else _decode_person(read[1])
    left = ties.without(units), person and person.without(units)
    if left == (ties, person):
        return 0
    called: bytes | str = STAYS if left[1] == person else b"" if left[1] is None else _encode(left[1])
    return int(
        run_together(client, [("EVALSHA", LINK.sha, 1, keys.customer(one), read[0], _encode(left[0]), called)])[0]
    )


def _plain(client: Redis, key: Any) -> Any:
    """A key's content as text; a contact as its values."""
    if client.type(key) != b"hash":
        content: Any = client.get(key)
        return _text(content or b"")
    fields: Any = client.hgetall(key)
    return {
        _text(name): msgspec.to_builtins(contact_in(value)) if name.startswith(b"c") and len(name) > 1 else _text(value)
        for name, value in fields.items()
    }


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace").replace("\0", " ")
