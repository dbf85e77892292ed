"""A shop with one person in every place where a person can be, and a search of every byte for their ids."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq
import redis
from sqlalchemy import insert

from decisioning.events import EventRecord
from decisioning.profile import Subject
from decisioning.request import DecisionRequest, OutcomeReport
from serving.adapters.onnx_scorer import OnnxScorer
from serving.bootstrap import live_bundle, open_contacts, open_engine, open_stores
from serving.customers import ConsentStatement, PreferencesStatement
from serving.engine import Engine
from serving.events import Reported, Taken
from storage.feature_store import open_feature_store
from storage.ledger.database import open_ledger, writing
from storage.ledger.tables import moments
from storage.settings import Settings
from training.features import apply_feature_repo, offline_path


class Person(NamedTuple):
    """A customer whom others' features name, with a second known id and a visitor."""

    id: str
    alias: str = "loyalty-778899"
    visitor: str = "device-5566"

    @property
    def units(self) -> tuple[str, ...]:
        return self.id, self.alias, f"anonymous:{self.visitor}"

    @property
    def needles(self) -> tuple[bytes, ...]:
        return self.id.encode(), self.alias.encode(), self.visitor.encode()


class Shop:
    """The engine over real stores."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.blobs, self.ledger = open_stores(settings)
        self.hot_state = open_contacts(settings)
        self.engine: Engine = open_engine(settings, self.blobs, self.ledger, self.hot_state)
        self.engine.scorer = OnnxScorer(live_bundle(self.blobs, settings))
        self._runner = asyncio.Runner()

    def run(self, call: Any) -> Any:
        return self._runner.run(call)

    def decide(self, **fields: Any) -> Any:
        return self.run(self.engine.decide(DecisionRequest(**fields), now=datetime.now(UTC)))

    def tell(self, message: str, **fields: Any) -> Taken:
        now = datetime.now(UTC)
        given = {"type": "track", "name": "product_viewed", "occurred_at": now, "received_at": now, **fields}
        event = EventRecord(event_id=f"shop/{message}", source="shop", **given)
        [taken] = self.run(self.engine.record_events([Reported(event, message)]))
        return taken

    def report(self, **fields: Any) -> str:
        [result] = self.run(
            self.engine.record_outcomes([OutcomeReport(**fields)], now=datetime.now(UTC), source="shop")
        )
        return result.status

    def consent(self, customer_id: str) -> Any:
        said = ConsentStatement(purpose="marketing", channel="email", granted=True, source="sign-up")
        return self.run(
            self.engine.customers.consent(customer_id, [said], self.engine.release, actor="t", now=datetime.now(UTC))
        )

    def units(self, person: Person) -> tuple[str, ...]:
        known = self.run(self.hot_state.read(Subject(person.id), now=datetime.now(UTC))).person
        assert known is not None
        return known.members

    def close(self) -> None:
        async def hang_up() -> None:
            self.hot_state.close()

        self.run(hang_up())
        self._runner.close()
        self.ledger.close()
        self.blobs.close()


@contextmanager
def opened(settings: Settings) -> Iterator[Shop]:
    shop = Shop(settings)
    try:
        yield shop
    finally:
        shop.close()


def copied(settings: Settings, home: Path, **changes: Any) -> Settings:
    """The shop's state directory for a test of its own; Feast's registry knows the files by their new place."""
    shutil.copytree(settings.home, home)
    own = replace(settings, home=home, **changes)
    apply_feature_repo(open_feature_store(own), own)
    return own


def somebody(settings: Settings) -> Person:
    """A business customer to whom another one reports."""
    contacts = pq.read_table(offline_path(settings, "simulated", "contacts"))
    known = set(contacts["customer_id"].to_pylist())
    return Person(next(one for one in contacts["reports_to"].to_pylist() if one in known))


def live(shop: Shop, person: Person) -> list[str]:
    """Leave the person in every place there is; the ids of their decisions, the first of which was clicked on."""
    settings = shop.settings
    reporting = next(
        row["customer_id"]
        for row in pq.read_table(offline_path(settings, "simulated", "contacts")).to_pylist()
        if row["reports_to"] == person.id
    )
    now = datetime.now(UTC)
    shop.consent(person.id)
    wish = msgspec.convert({"frequency": {"limit": 2, "within": "P7D"}}, PreferencesStatement)
    shop.run(shop.engine.customers.prefer(person.alias, wish, shop.engine.release, actor="t", now=now))
    seen = shop.decide(anonymous_id=person.visitor, placement="home_hero")
    shop.tell("login", type="identify", name="identify", customer_id=person.id, anonymous_id=person.visitor)
    shop.tell("alias", type="alias", name="alias", customer_id=person.id, previous_id=person.alias)
    shop.tell("shared", type="identify", name="identify", customer_id=reporting, anonymous_id=person.visitor)
    for number, unit in enumerate((person.id, person.alias)):
        shop.tell(f"view-{number}", customer_id=unit)
        shop.tell(f"buy-{number}", customer_id=unit, name="purchase", properties={"product_id": f"p-{number}"})
    shop.tell("surf", anonymous_id=person.visitor)
    records = [
        shop.decide(customer_id=person.id, placement="home_hero", context={"referred_by": person.alias}),
        shop.decide(customer_id=person.alias, placement="newsletter"),
        shop.decide(customer_id=person.id, placement="home_hero", decision_id=f"visit-of-{person.id}"),
        seen,
    ]
    shop.decide(customer_id=reporting, placement="home_hero")
    clicked = next(slot.action_id for slot in records[0].slots)
    shop.report(decision_id=records[0].decision_id, action_id=clicked, type="click", outcome_id="o-1")
    shop.run(shop.engine.customers.unsubscribe(person.id, "email", domain="simulated", now=now))
    at = int(now.timestamp() * 1e6)
    row = {
        "moment_id": "m-1", "domain": "simulated", "moment": "cart", "event_id": "shop/view-0",
        "customer_id": person.alias, "channel": "email", "state": "decided", "occurred_at": at, "due_at": at,
        "next_at": at, "attempts": 0, "decision_id": records[1].decision_id,
        "record": json.dumps({"to": person.alias}).encode(),
    }  # fmt: skip
    engine = open_ledger(settings)
    with writing(engine) as connection:
        connection.execute(insert(moments), [row])
    engine.dispose()
    rejects = settings.home / "ingested" / "orders.csv.1.rejected.jsonl"
    rejects.parent.mkdir(exist_ok=True)
    lines = [
        {"_row": 2, "customer": person.alias, "_mistake": "x"},
        {"_row": 3, "customer": "another", "_mistake": "x"},
    ]
    rejects.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (settings.home / "ingested" / "note-1.json").write_text(json.dumps({"witness": f"till/{person.id}"}))
    (settings.bench_dir / "decide").mkdir(parents=True, exist_ok=True)
    (settings.bench_dir / "decide" / "ledger.db").write_bytes(b"\0" + person.id.encode())
    (settings.feast_dir / "offline" / "simulated" / "profile.parquet.part").write_bytes(person.id.encode())
    return [record.decision_id for record in records]


def places(settings: Settings, person: Person) -> dict[str, int]:
    """How often the person's ids stand in each file of the state directory, and in Redis."""
    found: dict[str, int] = {}
    for path in sorted(settings.home.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            number = sum(content.count(needle) for needle in person.needles)
            if number:
                found[str(path.relative_to(settings.home))] = number
    if "redis" in (settings.hot_state, settings.online_store):
        client = redis.Redis.from_url(settings.redis_url)
        number = sum(_in_redis(client, key, needle) for key in client.scan_iter() for needle in person.needles)
        if number:
            found["redis"] = number
        client.close()
    return found


def _in_redis(client: Any, key: bytes, needle: bytes) -> int:
    reads = {b"hash": client.hgetall, b"set": client.smembers, b"string": client.get}
    kind = client.type(key)
    content = client.zrange(key, 0, -1, withscores=True) if kind == b"zset" else reads[kind](key)
    return (needle in key) + repr(content).count(repr(needle)[2:-1])
