"""`nextmove explain` and `nextmove replay` over a ledger that a real engine wrote, with a real model."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml

from decisioning.content import Audience
from decisioning.content_types import BLUEPRINT
from decisioning.exploration import EpsilonGreedy
from decisioning.reasons import Drop
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from nextmove.cli import app, main
from serving.adapters.onnx_scorer import OnnxScorer
from serving.bootstrap import draw_key
from serving.engine import Engine
from storage.blobs import BlobStore
from storage.bundles import publish_bundle
from storage.catalog_files import catalog_pointer, decode_release
from storage.ledger.database import migrate
from storage.ledger.writer import Ledger
from storage.settings import Settings, prepare_home
from tests.fakes import FakeFeatures, FakeHotState
from tests.training.tiny_shop import NOW, tiny_catalog, tiny_examples
from training.training_run import train

DECIDED = datetime.now(UTC) - timedelta(days=5)
COUNT = 60


class Past(NamedTuple):
    """A state directory, its decisions, and the version of a release in which umbrellas are retired."""

    home: Path
    records: list[DecisionRecord]
    without_umbrellas: str


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    settings = Settings(home=tmp_path_factory.mktemp("past") / "state", domain="tiny")
    prepare_home(settings)
    migrate(settings)
    blobs = BlobStore(settings)
    [hero] = tiny_catalog().content.placements
    content = msgspec.structs.replace(
        tiny_catalog().content,
        placements=(msgspec.structs.replace(hero, exploration=EpsilonGreedy(epsilon=0.9)),),
        audiences=(Audience(id="grown_up", rule="customer.age > 18.0"),),
    )
    bundle = train(tiny_examples(600), Settings(), catalog=tiny_catalog(), now=NOW, register=False).bundle
    publish_bundle(blobs, bundle.manifest, bundle.graph)
    retired = msgspec.structs.replace(content.actions[0], status="retired")
    versions = []
    for each in (msgspec.structs.replace(content, actions=(retired, *content.actions[1:])), content):
        versions.append(blobs.put(msgspec.json.encode({BLUEPRINT: each}, order="deterministic")))
        blobs.point(catalog_pointer("tiny"), versions[-1], now=DECIDED, reason="test")
    ledger = Ledger(settings)
    engine = Engine(
        release=decode_release(blobs.get(versions[1])),
        features=FakeFeatures({f"c-{n}": {"age": 20.0 + n, "colour": "red"} for n in range(COUNT)}),
        hot_state=FakeHotState(),
        ledger=ledger,
        scorer=OnnxScorer(bundle),
        draw_key=draw_key(settings),
    )
    records = asyncio.run(_decided(engine))
    ledger.close()
    blobs.close()
    return Past(settings.home, records, versions[0])


async def _decided(engine: Engine) -> list[DecisionRecord]:
    records = []
    for n in range(COUNT):
        asked = DecisionRequest(
            customer_id=f"c-{n}", placement="home_hero", decision_id=f"d-{n}", context={"weather": "rain"}
        )
        records.append(await engine.decide(asked, now=DECIDED))
        if n % 3 == 0:
            sold = OutcomeReport(decision_id=f"d-{n}", type="purchase", value=9.0, occurred_at=DECIDED)
            await engine.record_outcomes([sold], now=DECIDED)
    return records


@pytest.fixture
def nextmove(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, past: Past) -> Callable[..., Said]:
    def run(*arguments: str, **environment: str) -> Said:
        for name, value in {"NEXTMOVE_HOME": str(past.home), "NEXTMOVE_DOMAIN": "tiny", **environment}.items():
            monkeypatch.setenv(name, value)
        code = 0
        try:
            main(lambda: app(list(arguments), standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Said(code, *capfd.readouterr())

    return run


def test_an_explanation_shows_what_was_read_the_formulas_and_the_losers(
    nextmove: Callable[..., Said], past: Past
) -> None:
    said = nextmove("explain", "d-0")
    record = past.records[0]
    assert said.code == 0
    for part in ("customer", "c-0", "home_hero", "weather = 'rain'", "age = 20.0", "consents", "budgets", "holdout"):
        assert part in said.out, part
    for candidate in record.candidates:
        assert candidate.action_id in said.out
    assert " x 1.0 x 10.0 x 1.0 = " in said.out
    assert "The best that lost" in said.out


def test_an_explanation_for_machines_says_the_same(nextmove: Callable[..., Said], past: Past) -> None:
    found = json.loads(nextmove("explain", "d-0", "--json").out)
    assert found["decision_id"] == "d-0"
    assert {each["action_id"] for each in found["candidates"]} == {c.action_id for c in past.records[0].candidates}
    assert len(found["losers"]) == 2


def test_an_explanation_of_a_persons_decision_says_which_id_was_named(
    nextmove: Callable[..., Said], past: Past
) -> None:
    of_a_person = msgspec.structs.replace(past.records[5], decision_id="of-a-person", customer_id="ann")
    ledger = Ledger(Settings(home=past.home, domain="tiny"))
    asyncio.run(ledger.append_decision(of_a_person, digest="ann"))
    ledger.close()
    assert "asked about c-5" in " ".join(nextmove("explain", "of-a-person").out.split())
    assert "asked about" not in nextmove("explain", "d-5").out


def test_an_explanation_says_what_an_earlier_slot_closed(nextmove: Callable[..., Said], past: Past) -> None:
    record = past.records[4]
    first, second, third = (candidate.action_id for candidate in record.candidates)
    [shown] = record.slots
    two = msgspec.structs.replace(
        record,
        decision_id="two-slots",
        slots=(
            msgspec.structs.replace(shown, action_id=first, available=(0, 1, 2), group="rain", goal=""),
            msgspec.structs.replace(shown, slot=2, action_id=third, available=(2,)),
        ),
    )
    ledger = Ledger(Settings(home=past.home, domain="tiny"))
    asyncio.run(ledger.append_decision(two, digest="two"))
    ledger.close()
    sentence = "closed for slot 2 by what slot 1 took (group rain)"
    assert sentence in " ".join(nextmove("explain", "two-slots").out.split())
    found = json.loads(nextmove("explain", "two-slots", "--json").out)
    assert {each["action_id"]: each["why"] for each in found["candidates"]}[second] == sentence


@pytest.mark.parametrize("command", ["explain", "replay"])
def test_an_unknown_decision_is_one_clear_line(nextmove: Callable[..., Said], command: str) -> None:
    said = nextmove(command, "nowhere")
    assert said.code == 1
    assert said.err.strip() == "error (unknown_decision): no decision has the id 'nowhere'"


def test_a_decision_replays_and_its_model_says_the_same_again(nextmove: Callable[..., Said]) -> None:
    said = nextmove("replay", "d-1", "--rescore")
    assert said.code == 0
    assert "d-1: identical\n" in said.out
    assert "3 scores agree" in said.out
    found = json.loads(nextmove("replay", "d-1", "--rescore", "--json").out)
    assert (found["identical"], found["differences"], found["rescored"]["agrees"]) == (True, [], True)
    assert (found["verdict"], found["changed_meanwhile"]) == ("identical", False)


def test_a_record_that_was_tampered_with_is_told_by_its_differences(nextmove: Callable[..., Said], past: Past) -> None:
    settings = Settings(home=past.home, domain="tiny")
    first = past.records[2].candidates[0]
    forged = msgspec.structs.replace(
        past.records[2],
        decision_id="forged",
        candidates=(msgspec.structs.replace(first, propensity=0.9), *past.records[2].candidates[1:]),
    )
    ledger = Ledger(settings)
    asyncio.run(ledger.append_decision(forged, digest="forged"))
    ledger.close()
    said = nextmove("replay", "forged", "--rescore")
    assert said.code == 1
    assert "forged: NOT identical" in said.out
    assert "candidates[0].priority: was" in said.out
    assert "do NOT agree" in said.out


def test_another_secret_is_one_clear_line(nextmove: Callable[..., Said]) -> None:
    said = nextmove("replay", "d-1", NEXTMOVE_DRAW_SECRET="another secret of 16")
    assert said.code == 1
    assert "NEXTMOVE_DRAW_SECRET" in said.err
    assert "Traceback" not in said.err


def test_what_if_says_what_changes_and_what_it_earns(nextmove: Callable[..., Said], past: Past) -> None:
    said = nextmove("replay", "--since", "6d", "--catalog", past.without_umbrellas[:12])
    assert said.code == 0, said.err
    umbrellas = sum(record.slots[0].action_id == "umbrella" for record in past.records)
    assert "umbrella" in said.out
    assert "grown_up" in said.out
    assert "SNIPS" in said.out
    *_, last = said.out.strip().splitlines()
    assert last.startswith("http://127.0.0.1:5000/#/experiments/")
    found = json.loads(nextmove("replay", "--since", "6d", "--catalog", past.without_umbrellas[:12], "--json").out)
    assert found["decisions"] >= COUNT
    assert found["changed_draws"] >= umbrellas
    before = {each["action_id"]: each["before"] for each in found["actions"]}
    assert found["changed"] == pytest.approx(before["umbrella"])


def test_what_if_reads_a_folder_of_files_too(
    nextmove: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextmove.steps.features_of", lambda _: None)  # the tiny shop is not in Feast
    content = msgspec.to_builtins(tiny_catalog().content)
    for name in ("market", "features"):
        content.pop(name, None)
    folder = tmp_path / "tiny" / "global"
    folder.mkdir(parents=True)
    written = {name: value for name, value in json.loads(msgspec.json.encode(content)).items() if value}
    (folder / "shop.yaml").write_text(yaml.safe_dump(written))
    said = nextmove("replay", "--since", "6d", "--catalog", str(tmp_path / "tiny"), "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["decisions"] >= COUNT


def test_another_catalogue_is_evaluated_as_it_is_replayed(nextmove: Callable[..., Said], past: Past) -> None:
    asked = ("--since", "6d", "--catalog", past.without_umbrellas[:12], "--json")
    replayed, evaluated = (json.loads(nextmove(command, *asked).out) for command in ("replay", "evaluate"))
    for changing in ("run_id", "run", "since", "until"):
        assert replayed.pop(changing)
        evaluated.pop(changing)
    assert replayed == evaluated


def test_another_exploration_policy_is_evaluated_on_the_ledger(nextmove: Callable[..., Said], past: Past) -> None:
    same = json.loads(nextmove("evaluate", "--policy", "epsilon_greedy:0.9", "--json").out)
    assert same["changed"] == pytest.approx(0.0, abs=1e-9)
    found = json.loads(nextmove("evaluate", "--policy", "greedy", "--json").out)
    # Of three candidates the best had 0.4, each other 0.3.
    assert found["changed"] == pytest.approx(0.6 * found["decisions"])
    assert json.loads(found["change"])["policy"] == "greedy"
    assert '{"policy":"greedy"}' in nextmove("evaluate", "--policy", "greedy").out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "give a decision's id"),
        (("--since", "1d"), "both --since and --catalog"),
        (("d-1", "--since", "1d"), "give one or the other"),
        (("--since", "soon", "--catalog", "x"), "--since is 'soon'"),
        (("--since", "1d", "--catalog", "nowhere"), "--catalog is 'nowhere'"),
        (("d-1", "--ledger", "nowhere"), "there is no ledger in nowhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_what_cannot_be_meant_is_one_clear_line(
    nextmove: Callable[..., Said], arguments: tuple[str, ...], named: str
) -> None:
    said = nextmove("replay", *arguments)
    assert said.code == 1
    assert named in said.err
    assert "Traceback" not in said.err


def test_a_market_of_no_decision_is_named_with_those_that_there_are(nextmove: Callable[..., Said], past: Past) -> None:
    said = nextmove("replay", "--since", "6d", "--catalog", past.without_umbrellas[:12], "--market", "ed")
    assert said.code == 1
    assert "is of the market 'ed', they are of global (" in said.err
    assert "--market" in said.err


def test_availability_that_is_not_what_was_read_implies_is_said(nextmove: Callable[..., Said], past: Past) -> None:
    record = past.records[3]
    [shown] = record.slots
    place = [candidate.action_id for candidate in record.candidates].index(shown.action_id)
    why = "a cap was reached, a budget spent, or consent withdrawn, since they were read"
    altered = msgspec.structs.replace(
        record,
        decision_id="altered",
        slots=(msgspec.structs.replace(shown, available=(place,), probability=1.0),),
        dropped=tuple(
            Drop(each.action_id, "reservation", "TAKEN_MEANWHILE", why)
            for each in record.candidates
            if each.action_id != shown.action_id
        ),
    )
    ledger = Ledger(Settings(home=past.home, domain="tiny"))
    asyncio.run(ledger.append_decision(altered, digest="altered"))
    ledger.close()
    said = nextmove("replay", "altered")
    assert "identical, given what was available at the reservation: something changed" in said.out
    found = json.loads(nextmove("replay", "altered", "--json").out)
    assert found["changed_meanwhile"]
    assert found["verdict"].startswith("identical, given")
