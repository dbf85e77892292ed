"""Shadow, apprentices, fairness and drift from the command line, over one small ledger."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from decisioning.content import Content
from decisioning.record import DecisionRecord, ModelVersion, Shadow
from nextmove.cli import app, main
from nextmove.doctor import drift_finding
from serving.follower import Follower
from serving.http.drift_metrics import drift_metrics
from storage.blobs import BlobStore
from storage.bundles import NOTHING, bundle_pointer, shadow_bundle, shadow_pointer
from storage.catalog_files import catalog_pointer
from storage.drift_findings import keep_drift, last_drift
from storage.ledger.database import migrate
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import candidate, record, slot
from tests.serving.test_engine import Shop
from tests.training.tiny_shop import NOW, tiny_catalog, tiny_examples
from training.promotion import promote
from training.training_run import TrainedModel, train

CATALOG = tiny_catalog()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"), domain="tiny")
    migrate(settings)
    with closing(BlobStore(settings)) as blobs:
        blobs.point(catalog_pointer("tiny"), blobs.put(released(CATALOG.content)), now=NOW, reason="test")
    return settings


def released(content: Content) -> bytes:
    return msgspec.json.encode({"global": content})


@pytest.fixture(scope="module")
def models(settings: Settings) -> tuple[TrainedModel, TrainedModel]:
    """The champion, and another one."""
    examples = tiny_examples(2000)
    first, second = (train(examples, settings, catalog=CATALOG, now=NOW, seed=seed) for seed in (1, 2))
    promote(examples, settings, catalog=CATALOG, now=NOW, run_id=first.run_id, force="the first")
    return first, second


@pytest.fixture
def blobs(settings: Settings) -> Iterator[BlobStore]:
    with closing(BlobStore(settings)) as store:
        yield store


@pytest.fixture
def nextmove(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("NEXTMOVE_HOME", str(settings.home))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(lambda: app([*arguments, "--dataset", "tiny"], standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return (code, *capfd.readouterr())

    return run


def test_services_take_the_challenger_into_the_shadow_and_let_it_go(
    nextmove: Callable[..., tuple[int, str, str]], models: tuple[TrainedModel, TrainedModel], blobs: BlobStore
) -> None:
    champion, challenger = models
    shop = Shop()
    follower = Follower(shop.engine, blobs, Settings(domain="tiny"), take_keys=lambda: None, on_failure=lambda _: None)
    assert nextmove("shadow", "start", "--run", challenger.run_id)[0] == 0
    follower.check()
    assert shop.engine.scorer is not None
    assert shop.engine.shadow is not None
    assert (shop.engine.scorer.sha256, shop.engine.shadow.sha256) == (champion.bundle.sha256, challenger.bundle.sha256)
    assert nextmove("shadow", "stop")[0] == 0
    follower.check()
    assert shop.engine.shadow is None
    assert blobs.pointer(shadow_pointer("tiny")) == NOTHING


def test_a_challenger_that_cannot_be_read_scores_nothing_and_decisions_go_on(
    models: tuple[TrainedModel, TrainedModel], blobs: BlobStore
) -> None:
    shop = Shop()
    failures: list[str] = []
    follower = Follower(shop.engine, blobs, Settings(domain="tiny"), take_keys=lambda: None, on_failure=failures.append)
    blobs.point(shadow_pointer("tiny"), blobs.put(b"{}"), now=NOW, reason="test")
    follower.check()
    follower.check()
    assert shop.engine.shadow is None
    assert shop.engine.scorer is not None
    assert failures == ["shadow"]
    assert any(warning.startswith("shadow: ") for warning in follower.warnings())
    blobs.point(shadow_pointer("tiny"), models[1].bundle.sha256, now=NOW, reason="test")
    follower.check()
    assert shop.engine.shadow is not None
    assert not [warning for warning in follower.warnings() if warning.startswith("shadow: ")]


def test_who_is_served_casts_no_shadow(
    nextmove: Callable[..., tuple[int, str, str]], models: tuple[TrainedModel, TrainedModel], blobs: BlobStore
) -> None:
    code, _, said = nextmove("shadow", "start", "--run", models[0].run_id)
    assert code == 1
    assert "is served, so it casts no shadow" in said
    blobs.point(shadow_pointer("tiny"), str(blobs.pointer(bundle_pointer("tiny"))), now=NOW, reason="test")
    assert shadow_bundle(blobs, "tiny") is None


def test_a_promotion_ends_the_shadow(
    settings: Settings, models: tuple[TrainedModel, TrainedModel], blobs: BlobStore
) -> None:
    champion, challenger = models
    blobs.point(shadow_pointer("tiny"), challenger.bundle.sha256, now=NOW, reason="test")
    examples = tiny_examples(2000)
    for model in (challenger, champion):
        promote(examples, settings, catalog=CATALOG, now=NOW, run_id=model.run_id, force="test")
        assert shadow_bundle(blobs, "tiny") is None


def logged(settings: Settings, models: tuple[TrainedModel, TrainedModel], *, apprentice: bool = False) -> None:
    """Three days ago, a hundred decisions that the challenger scored too, or that callers made."""
    at, names = datetime.now(UTC) - timedelta(days=3), CATALOG.content.actions
    model = ModelVersion("tiny-propensity", "2", models[1].bundle.sha256)
    ledger = Ledger(settings)
    try:
        for number in range(100):
            shown = names[number % 3].id
            made: DecisionRecord = record(
                decision_id=f"{'a' if apprentice else 's'}-{number}",
                domain="tiny",
                customer_id=f"c-{number % 40}",
                decided_at=at + timedelta(minutes=number),
                candidates=tuple(candidate(name.id, weight=1.0) for name in names),
                slots=(slot(1, shown, probability=None if apprentice else 1 / 3),),
                shadow=None
                if apprentice
                else Shadow(model=model, propensities=(0.2, 0.1, 0.1), probabilities=(0.8, 0.1, 0.1)),
                apprentice=apprentice,
            )
            asyncio.run(ledger.append_decision(made, digest="d"))
    finally:
        ledger.close()


def test_the_report_says_agreement_and_value_and_is_kept_in_mlflow(
    nextmove: Callable[..., tuple[int, str, str]], settings: Settings, models: tuple[TrainedModel, TrainedModel]
) -> None:
    logged(settings, models)
    code, out, _ = nextmove("shadow", "report", "--run", models[1].run_id, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["decisions"], found["closed"], found["version"]) == (100, 100, "2")
    assert [each["estimator"] for each in found["values"]] == ["ips", "snips", "dr"]
    code, out, said = nextmove("shadow", "report", "--run", models[1].run_id)
    assert (code, "next: nextmove promote" in said) == (0, True)
    assert "the same first choice in" in out


def test_apprentices_are_reported_on(
    nextmove: Callable[..., tuple[int, str, str]], settings: Settings, models: tuple[TrainedModel, TrainedModel]
) -> None:
    logged(settings, models, apprentice=True)
    code, out, _ = nextmove("apprentice", "--json")
    assert code == 0
    [found] = json.loads(out)["placements"]
    assert found["match_rate"]["value"] == pytest.approx(1 / 3)
    code, out, _ = nextmove("apprentice")
    assert (code, "the model's word" in out) == (0, True)


def test_without_a_shadow_the_report_says_what_to_do(
    nextmove: Callable[..., tuple[int, str, str]], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(replace(settings, home=tmp_path))
    monkeypatch.setenv("NEXTMOVE_HOME", str(tmp_path))
    code, _, said = nextmove("shadow", "report")
    assert code == 1
    assert "nextmove shadow start" in said


def test_groups_are_compared_and_those_that_cannot_be_are_one_clear_line(
    nextmove: Callable[..., tuple[int, str, str]], settings: Settings, models: tuple[TrainedModel, TrainedModel]
) -> None:
    logged(settings, models)
    code, out, _ = nextmove("fairness", "--by", "colour", "--json")
    assert code == 0
    assert {(each["attribute"], each["group"]) for each in json.loads(out)["ratios"]} == {("colour", "red")}
    code, out, said = nextmove("fairness", "--by", "colour")
    assert (code, "exposure: red" in out, "next: nextmove drift" in said) == (0, True, True)
    for options, word in (((), "protects no feature"), (("--by", "faith"), "faith")):
        code, _, said = nextmove("fairness", *options)
        assert (code, word in said.strip().splitlines()[-1]) == (1, True)


def test_drift_is_looked_for_and_then_in_metrics_and_doctor(
    nextmove: Callable[..., tuple[int, str, str]],
    settings: Settings,
    models: tuple[TrainedModel, TrainedModel],
    blobs: BlobStore,
) -> None:
    assert {metric.name for metric in drift_metrics(settings)()} == set()
    assert drift_finding(settings, now=NOW).level == "note"
    logged(settings, models)
    code, out, _ = nextmove("drift", "--since", "30d", "--json")
    assert code == 0
    found = json.loads(out)
    assert {each["name"] for each in found["features"]} == {"age", "colour", "weather", "placement", "channel"}
    assert {each["level"] for each in found["features"]} == {"too few"}
    gauges = {metric.name: metric.samples for metric in drift_metrics(settings)()}
    assert {sample.labels["feature"] for sample in gauges["nextmove_drift_psi"]} >= {"age", "colour"}
    assert gauges["nextmove_drift_alarms"][0].value == 0
    assert drift_finding(settings, now=datetime.now(UTC)).level == "ok"
    assert drift_finding(settings, now=datetime.now(UTC) + timedelta(days=8)).level == "note"
    summary = last_drift(blobs, "tiny")
    assert summary is not None
    keep_drift(blobs, "tiny", msgspec.structs.replace(summary, alarms=("age drifted",)), now=NOW)
    assert drift_finding(settings, now=datetime.now(UTC)).level == "warning"
    code, out, said = nextmove("drift", "--since", "30d")
    assert (code, "next: nextmove doctor" in said) == (0, True)
