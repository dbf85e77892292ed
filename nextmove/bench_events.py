"""What events cost the service: how many a second it keeps, how soon the next decision knows, and what a kill loses.

The service runs as a process of its own over a copy of the state directory, so nothing of this is learnt from.
"""

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from decisioning.catalog import Catalog
from decisioning.errors import SetupError
from nextmove.console import out, print_json, print_table, step
from nextmove.load import Caller, Load, drive
from nextmove.serve import Service
from serving.bootstrap import live_release
from storage.blobs import BlobStore
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

TOGETHER = 100
BATCHERS = 8
CUSTOMERS = 5_000
# A customer takes a moment to come back; whoever asks without a break measures the load that he is himself.
BETWEEN_PROBES = 0.05
KILL_AFTER = (0.2, 0.7)
_COPIED = ("feast", "bundles", "draw.key")


class EventsCost(NamedTuple):
    """Events a second with one call each and in batches, latencies in milliseconds, CPU as shares of a core.

    `visible` is from sending a purchase to having the answer of the next decision, under the load of single
    events; `decision` is what that decision takes by itself then.
    """

    connections: int
    single_per_second: float
    single_p50: float
    single_p99: float
    batched_per_second: float
    batch_p50: float
    batch_p99: float
    visible_p50: float
    visible_p99: float
    decision_p50: float
    probes: int
    service_us_per_single: float
    service_us_per_batched: float
    generator_share: float
    kills: int
    acknowledged: int
    lost: int


def run_events(settings: Settings, *, seconds: float, connections: int, kills: int, as_json: bool) -> None:
    """Measure, keep the figures under the state directory's `bench`, and print.

    Raises:
        SetupError: There is nothing to serve in the state directory, or the service does not answer.
    """
    prepare_home(settings)
    migrate(settings)
    with step("bench events") as progress:
        bought = _something_bought(settings)
        with _copy_of(settings) as own:
            progress(f"{seconds:g} s of single events, then {seconds:g} s of batches")
            with _running(own) as service:
                cost = asyncio.run(_measured(service, bought, seconds, connections))
            acknowledged: set[str] = set()
            for number in range(kills):
                progress(f"kill {number + 1} of {kills}")
                acknowledged |= _killed(own, number)
            lost = _lost(own, acknowledged)
        cost = cost._replace(kills=kills, acknowledged=len(acknowledged), lost=lost)
        path = settings.bench_dir / "events.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(cost._asdict()), indent=2))
        progress.result = str(path)
    if as_json:
        print_json(cost._asdict())
        return
    _print(cost)


@contextmanager
def _copy_of(settings: Settings) -> Iterator[Settings]:
    home = settings.bench_dir / "events-home"
    shutil.rmtree(home, ignore_errors=True)
    own = replace(settings, home=home)
    prepare_home(own)
    for name in _COPIED:
        source = settings.home / name
        if source.is_dir():
            shutil.copytree(source, home / name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, home / name)
    # Not as a file: a service may be writing it. And without keys, so that this may call from here.
    with closing(sqlite3.connect(settings.ledger_path)) as live, closing(sqlite3.connect(own.ledger_path)) as copy:
        live.backup(copy)
        copy.execute("DELETE FROM keys")
        copy.commit()
    try:
        yield own
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _running(settings: Settings) -> Iterator[Service]:
    service = Service(settings, port=_free_port())
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


def _something_bought(settings: Settings) -> tuple[str, str, str]:
    """A product that an action promotes, that action, and a placement that can show it without consent."""
    with closing(BlobStore(settings)) as blobs:
        catalog: Catalog = live_release(blobs, settings).blueprint
    for placement in catalog.content.placements:
        if placement.is_push or catalog.channels[placement.channel].requires_consent:
            continue
        for proposal in catalog.offered(placement).live:
            if proposal.action.promotes:
                return proposal.action.promotes[0], proposal.action.id, placement.id
    raise SetupError("no action that can be shown without consent promotes a product, so no purchase can be seen")


async def _measured(service: Service, bought: tuple[str, str, str], seconds: float, connections: int) -> EventsCost:
    await drive(service.url, "/v1/track", _single("warm"), connections=connections, seconds=min(2.0, seconds))
    cpu = _service_cpu(service)
    stop = asyncio.Event()
    probing = asyncio.create_task(_probe(service.url, bought, stop))
    single = await drive(service.url, "/v1/track", _single("single"), connections=connections, seconds=seconds)
    stop.set()
    visible, decisions = await probing
    single_cpu, cpu = _service_cpu(service) - cpu, _service_cpu(service)
    batched = await drive(service.url, "/v1/batch", _batch, connections=BATCHERS, seconds=seconds)
    batched_cpu = _service_cpu(service) - cpu
    events = len(batched.seconds) * TOGETHER
    return EventsCost(
        connections=connections,
        single_per_second=len(single.seconds) / single.wall,
        single_p50=_milliseconds(single.seconds, 50),
        single_p99=_milliseconds(single.seconds, 99),
        batched_per_second=events / batched.wall,
        batch_p50=_milliseconds(batched.seconds, 50),
        batch_p99=_milliseconds(batched.seconds, 99),
        visible_p50=_milliseconds(visible, 50),
        visible_p99=_milliseconds(visible, 99),
        decision_p50=_milliseconds(decisions, 50),
        probes=len(visible),
        service_us_per_single=1e6 * single_cpu / len(single.seconds),
        service_us_per_batched=1e6 * batched_cpu / events,
        generator_share=_share(single),
        kills=0,
        acknowledged=0,
        lost=0,
    )


async def _probe(url: str, bought: tuple[str, str, str], stop: asyncio.Event) -> tuple[list[float], list[float]]:
    """Customer after customer buys something; how long until a decision says so, and how long that decision took."""
    product, action_id, placement = bought
    caller = await Caller.open(url)
    visible: list[float] = []
    decisions: list[float] = []
    while not stop.is_set():
        customer = f"probe-{len(visible)}"
        asked = {"customer_id": customer, "placement": placement, "explain": True, "mode": "preview"}
        began = time.perf_counter()
        await caller.post("/v1/track", {**_event(customer, "Order Completed", product), "messageId": customer})
        sent = time.perf_counter()
        status, answer = await caller.post("/v1/decisions", asked)
        ended = time.perf_counter()
        dropped = msgspec.json.decode(answer).get("dropped", [])
        if not any((drop["action_id"], drop["reason"]) == (action_id, "ALREADY_BOUGHT") for drop in dropped):
            raise SetupError(f"{customer} bought {product}, and the next decision ({status}) does not know of it")
        visible.append(ended - began)
        decisions.append(ended - sent)
        await asyncio.sleep(BETWEEN_PROBES)
    caller.close()
    return visible, decisions


def _killed(settings: Settings, number: int) -> set[str]:
    """Ids of the events that were acknowledged before the service was killed in the middle of taking more."""
    acknowledged: set[str] = set()

    async def send(url: str, name: int) -> None:
        caller = await Caller.open(url)
        for place in range(10**9):
            batch = _batch(place, f"kill-{number}-{name}")
            _, answer = await caller.post("/v1/batch", batch)
            results = msgspec.json.decode(answer)["results"]
            acknowledged.update(f"local/{r['message_id']}" for r in results if r["status"] == "accepted")

    async def until_it_dies(service: Service) -> None:
        least, most = KILL_AFTER
        after = least + (most - least) * ((number * 7) % 20) / 20
        asyncio.get_running_loop().call_later(after, _kill, service.process.pid)
        await asyncio.gather(*(send(service.url, name) for name in range(BATCHERS)), return_exceptions=True)

    with _running(settings) as service:
        asyncio.run(until_it_dies(service))
    return acknowledged


def _kill(pid: int) -> None:
    """The supervisor and its workers, at once, as a power cut would."""
    children = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    for process in [pid, *map(int, children)]:
        os.kill(process, signal.SIGKILL)


def _lost(settings: Settings, acknowledged: set[str]) -> int:
    with closing(LedgerReader(settings)) as reader:
        kept = {event.event_id for event in reader.events(settings.domain)}
    return len(acknowledged - kept)


def _event(customer_id: str, name: str, product: str) -> dict[str, Any]:
    properties = {"revenue": 10.5, "category": "shoes", "products": [{"product_id": product, "price": 10.5}]}
    return {"type": "track", "userId": customer_id, "event": name, "properties": properties}


def _single(name: str) -> Any:
    return lambda number: _numbered(number, name)


def _numbered(number: int, name: str) -> dict[str, Any]:
    said = "Order Completed" if number % 5 == 0 else "Product Viewed"
    return {**_event(f"c-{number % CUSTOMERS:05d}", said, f"p-{number % 50}"), "messageId": f"{name}-{number}"}


def _batch(number: int, name: str = "batch") -> dict[str, Any]:
    return {"batch": [_numbered(number * TOGETHER + place, name) for place in range(TOGETHER)]}


def _service_cpu(service: Service) -> float:
    """CPU seconds of the service's processes so far."""
    pids = [service.process.pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == service.process.pid:
            pids.append(int(stat.parent.name))
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _milliseconds(seconds: Sequence[float], percent: int) -> float:
    return 1e3 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def _share(load: Load) -> float:
    return load.cpu / load.wall


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _print(cost: EventsCost) -> None:
    print_table(
        f"Events, one worker, {cost.connections} connections; the generator took {cost.generator_share:.2f} of a core",
        ("", "events/s", "p50 ms", "p99 ms", "service CPU us an event"),
        [
            ("one a call", cost.single_per_second, cost.single_p50, cost.single_p99, cost.service_us_per_single),
            (
                f"{TOGETHER} a call",
                cost.batched_per_second,
                cost.batch_p50,
                cost.batch_p99,
                cost.service_us_per_batched,
            ),
        ],
    )
    out.print(
        f"A purchase is known to the next decision after {cost.visible_p50:.1f} ms (p50), {cost.visible_p99:.1f} ms"
        f" (p99), of which that decision took {cost.decision_p50:.1f} ms; {cost.probes} times, under single events."
    )
    if cost.kills:
        out.print(
            f"Killed {cost.kills} times in the middle: of {cost.acknowledged:,} acknowledged events"
            f" {cost.lost} were lost."
        )
