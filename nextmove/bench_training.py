"""Training at scale: a ledger of decisions that never were, then what reading and learning from it costs.

The ledger is written in bulk into a directory of its own, which is removed afterwards. What is measured is
a process of its own that does what `nextmove train` does, from the file to the checked ONNX graph.
"""

import multiprocessing
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from decisioning.catalog import Catalog
from decisioning.content import Action, Channel, Content, Placement, Treatment
from decisioning.content_types import NO_ACTION, Scalar, Value
from decisioning.errors import NextmoveError, SetupError
from decisioning.experiment_content import Holdout
from decisioning.exploration import SquareCB
from decisioning.profile import Contact
from decisioning.record import Candidate, DecisionRecord, OutcomeRecord, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest
from nextmove.console import out, print_json, print_table, step
from nextmove.peak_memory import peak_memory
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.ledger.rows import decision_row, outcome_row
from storage.ledger.statements import insert_all
from storage.ledger.tables import decisions, outcomes
from storage.settings import Settings

DOMAIN, PLACEMENT = "bench", "home"
NUMBERS, TEXTS, LEVELS = 48, 12, 12  # the customers' columns
ACTIONS, CANDIDATES, MOST_CONTACTS = 20, 10, 8
END = datetime(2026, 6, 1, tzinfo=UTC)
SPAN = timedelta(days=120)
ROWS_PER_COMMIT = 5_000
GIB = 2**30
_STAGES = {
    "reading": "read, decode, rows",
    "encoding": "encode",
    "fitting": "LightGBM",
    "calibrating": "calibrate, judge",
    "exporting": "export and check",
}


class TrainingCost(NamedTuple):
    """What one training took.

    Attributes:
        columns: Of the model's input; `customer_columns` of them were logged with each decision.
        seconds: By stage, in their order, by the clock; `cpu_seconds` of all threads together, which other
            work on the machine changes less.
        lightgbm_share: Of the CPU.
        peak_gib: Resident memory of the process at its highest; `idle_gib` before it read anything.
    """

    decisions: int
    customer_columns: int
    columns: int
    trees: int
    ledger_gib: float
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    total: float
    total_cpu: float
    lightgbm_share: float
    peak_gib: float
    idle_gib: float
    auc: float


def run_training(settings: Settings, *, decisions: int, seed: int, as_json: bool) -> None:
    """Write a ledger, train on it in a process of its own, print what that took.

    Raises:
        SetupError: The training failed; says how.
    """
    settings.bench_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.bench_dir, prefix="training-") as folder:
        with step(f"a ledger of {decisions:,} decisions"):
            write_ledger(Path(folder), decisions, seed=seed)
        with step("train on it") as progress:
            cost = measured(Path(folder), decisions)
            progress.result = f"{cost.total:.0f} s, {cost.peak_gib:.2f} GiB"
    if as_json:
        print_json(cost._asdict())
        return
    print_table(
        f"Training on {cost.decisions:,} ledger decisions ({cost.ledger_gib:.1f} GiB) with {cost.customer_columns}"
        f" customer columns, {cost.columns} in all; {cost.trees} trees",
        ("stage", "s", "CPU s", "% of CPU"),
        [
            *(
                (name, cost.seconds[name], seconds, 100 * seconds / cost.total_cpu)
                for name, seconds in cost.cpu_seconds.items()
            ),
            ("all", cost.total, cost.total_cpu, 100.0),
        ],
    )
    out.print(
        f"peak memory {cost.peak_gib:.2f} GiB, {cost.idle_gib:.2f} before it read anything; AUC {cost.auc:.3f};"
        f" LightGBM itself is {cost.lightgbm_share:.0%} of the CPU"
    )


def catalog() -> Catalog:
    """Twenty actions at one placement, and nothing."""
    made = [
        Action(
            id=f"action_{number}",
            name=f"Action {number}",
            group=f"group_{number % 4}",
            goal="sell",
            status="live",
            value=10.0 + number,
            attributes={"margin": number / 7.0},
            treatments=(Treatment(f"action_{number}_web", "web"),),
        )
        for number in range(ACTIONS)
    ]
    nothing = Action(id=NO_ACTION, name="Nothing", group="group_0", goal="sell", status="live", value=1.0)
    return Catalog(
        Content(
            domain=DOMAIN,
            currency="EUR",
            holdout=Holdout(share=0.0),
            continuity=timedelta(0),
            personalisation="default",
            topics=(),
            groups=tuple(f"group_{number}" for number in range(4)),
            goals=("sell",),
            channels=(Channel("web"),),
            placements=(
                Placement(
                    id=PLACEMENT,
                    channel="web",
                    shown_by="impression",
                    attribution_window=timedelta(days=7),
                    reward={"accept": 1.0},
                    exploration=SquareCB(gamma=100.0),
                    priority_scale=10.0,
                ),
            ),
            actions=(*made, nothing),
        ),
        version="bench",
    )


def write_ledger(home: Path, count: int, *, seed: int) -> None:
    """So many decisions, each with an impression, and an acceptance by one in fifteen.

    Customers come back; what they were shown of late stands in each record, as it does in a real one. Half of
    the customers' columns tell something of whether they accept.
    """
    settings = _settings(home)
    migrate(settings)
    rng = np.random.default_rng(seed)
    customers = max(count // 12, 10)
    numbers = rng.normal(size=(customers, NUMBERS)).round(3)
    texts = rng.integers(0, LEVELS, size=(customers, TEXTS))
    weights = rng.normal(0.0, 0.25, NUMBERS) * (np.arange(NUMBERS) % 2)
    taste = rng.normal(0.0, 0.6, (LEVELS, ACTIONS))
    liking = (numbers @ weights)[:, None] + taste[texts[:, 0]]
    features: list[dict[str, Value]] = [
        {f"number_{place:02d}": value for place, value in enumerate(row)}
        | {f"text_{place:02d}": f"level {code}" for place, code in enumerate(codes)}
        for row, codes in zip(numbers.tolist(), texts.tolist(), strict=True)
    ]
    ids = [f"action_{number}" for number in range(ACTIONS)]
    seen: dict[int, list[Contact]] = {}
    gap = SPAN / count
    policy = PolicyVersion("squarecb", "1", {"gamma": 100.0})
    with closing(sqlite3.connect(settings.ledger_path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for start in range(0, count, ROWS_PER_COMMIT):
            size = min(ROWS_PER_COMMIT, count - start)
            whom = rng.integers(0, customers, size).tolist()
            lots = rng.random((size, 3)).tolist()
            among = rng.permuted(np.tile(np.arange(ACTIONS), (size, 1)), axis=1)[:, :CANDIDATES].tolist()
            written, reported = [], []
            for place in range(size):
                number, customer, (pick, luck, delay) = start + place, whom[place], lots[place]
                at = END - SPAN + number * gap
                chosen = among[place][int(pick * CANDIDATES)]
                past = seen.setdefault(customer, [])
                tired = sum(contact.action_id == ids[chosen] for contact in past)
                name = f"{number:026d}"
                accepts = luck < 1.0 / (1.0 + np.exp(3.0 - liking[customer, chosen] + 0.7 * tired))
                written.append(
                    decision_row(
                        _record(name, at, customer, features[customer], ids, among[place], chosen, past, policy),
                        "digest",
                    )
                )
                reported.append(outcome_row(_outcome(name, ids[chosen], "impression", at), "digest"))
                if accepts:
                    later = at + timedelta(seconds=30.0 + 86_400.0 * delay)
                    reported.append(outcome_row(_outcome(name, ids[chosen], "accept", later), "digest"))
                shown = Contact(
                    ids[chosen], f"group_{chosen % 4}", "web", at, "sell", PLACEMENT, name, at + timedelta(minutes=30)
                )
                seen[customer] = [*past[1 - MOST_CONTACTS :], shown]
            with connection:
                connection.executemany(insert_all(decisions, 1), written)
                connection.executemany(insert_all(outcomes, 1), reported)


def measured(home: Path, count: int) -> TrainingCost:
    """Train in a process of its own.

    Raises:
        SetupError: It failed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(home, count, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = "it ended without a word; its own output stands above"
    process.join()
    if isinstance(found, str):
        raise SetupError(f"the training of the benchmark failed: {found}")
    return TrainingCost(*found)


def _train(home: Path, count: int, answer: Connection) -> None:
    try:
        answer.send(tuple(_cost(home, count)))
    except (NextmoveError, MemoryError) as error:
        answer.send(str(error))


def _cost(home: Path, count: int) -> TrainingCost:
    from training.examples import combined, ledger_examples
    from training.training_run import train

    settings, shop = _settings(home), catalog()
    idle = peak_memory() / GIB
    marks: list[tuple[str, float, float]] = []

    def mark(said: str) -> None:
        marks.append((said.split()[0], time.perf_counter(), time.process_time()))

    mark("reading")
    with closing(LedgerReader(settings)) as reader:
        examples = combined(ledger_examples(reader, shop, now=END + timedelta(days=8)))
    trained = train(examples, settings, catalog=shop, now=END, progress=mark, register=False)
    mark("done")
    seconds, cpu = dict.fromkeys(_STAGES.values(), 0.0), dict.fromkeys(_STAGES.values(), 0.0)
    for (said, began, cpu_began), (_, ended, cpu_ended) in pairwise(marks):
        stage = _STAGES.get(said, _STAGES["reading"])
        seconds[stage] += ended - began
        cpu[stage] += cpu_ended - cpu_began
    return TrainingCost(
        decisions=count,
        customer_columns=NUMBERS + TEXTS,
        columns=len(trained.model.features),
        trees=int(trained.model.parameters["rounds"]),
        ledger_gib=settings.ledger_path.stat().st_size / GIB,
        seconds=seconds,
        cpu_seconds=cpu,
        total=sum(seconds.values()),
        total_cpu=sum(cpu.values()),
        lightgbm_share=cpu[_STAGES["fitting"]] / sum(cpu.values()),
        peak_gib=peak_memory() / GIB,
        idle_gib=idle,
        auc=trained.metrics["auc"],
    )


def _settings(home: Path) -> Settings:
    return Settings(home=home, domain=DOMAIN)


def _record(
    name: str,
    at: datetime,
    customer: int,
    features: dict[str, Value],
    ids: list[str],
    among: list[int],
    chosen: int,
    past: list[Contact],
    policy: PolicyVersion,
) -> DecisionRecord:
    candidates = tuple(
        Candidate(ids[each], f"{ids[each]}_web", 0.05, 10.0 + each, 1.0, 1.0, 0.5, 1.0 / CANDIDATES, 0)
        for each in among
    )
    shown = ShownSlot(
        slot=1,
        action_id=ids[chosen],
        treatment_id=f"{ids[chosen]}_web",
        probability=1.0 / CANDIDATES,
        available=tuple(range(CANDIDATES)),
        content={"headline": "An offer for you", "link": "/offers"},
        group=f"group_{chosen % 4}",
        goal="sell",
    )
    context: dict[str, Scalar] = {
        "device": ("mobile", "desktop", "tablet")[customer % 3],
        "page": ("home", "product")[chosen % 2],
    }
    return DecisionRecord(
        decision_id=name,
        decided_at=at,
        expires_at=at + timedelta(minutes=30),
        domain=DOMAIN,
        market="default",
        customer_id=f"c-{customer:07d}",
        placement=PLACEMENT,
        channel="web",
        request=DecisionRequest(customer_id=f"c-{customer:07d}", placement=PLACEMENT, context=context),
        features=features,
        overridden=(),
        features_as_of=at,
        consents=(),
        suppressed=(),
        contacts=tuple(past),
        assignments=(),
        dropped=(),
        candidates=candidates,
        slots=(shown,),
        reason="RANKED",
        reason_detail="",
        policy=policy,
        model=None,
        catalog_version="bench",
        key_id="bench",
    )


def _outcome(name: str, action_id: str, kind: str, at: datetime) -> OutcomeRecord:
    return OutcomeRecord(
        outcome_id=f"{name}-{kind}",
        decision_id=name,
        action_id=action_id,
        type=kind,
        detail=None,
        value=None,
        occurred_at=at,
        received_at=at,
    )
