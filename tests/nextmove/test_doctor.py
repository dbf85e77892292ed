"""`nextmove doctor` over a small shop: what is fine, what is broken by hand, and what sources tell."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT
from decisioning.exploration import BootstrapThompson
from decisioning.feed_findings import Finding
from decisioning.feeds import HOUR, FeedCount
from decisioning.response_counts import Cell, Tally, encoded
from decisioning.running_dry import Size
from nextmove import steps
from nextmove.doctor import findings
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.hot_state.posteriors import open_posterior
from storage.leases import held
from storage.ledger.arrivals import Arrivals
from storage.ledger.audience_sizes import keep_sizes
from storage.ledger.feed_counts import FeedCounts
from storage.ledger.gate_attempts import keep_attempt, last_attempt
from storage.posterior_counting import Counted
from storage.settings import Settings
from tests.nextmove.test_cli import Said, nextmove
from training.tracking import CHAMPION, Tracking

__all__ = ["nextmove"]


def levels(settings: Settings) -> dict[str, str]:
    return {each.subject: each.level for each in findings(settings, now=datetime.now(UTC))}


def test_a_sound_installation_is_healthy(shop_settings: Settings, nextmove: Callable[..., Said]) -> None:
    said = nextmove("doctor", "--json", home=shop_settings.home)
    document = json.loads(said.out)
    assert [each for each in document["findings"] if each["level"] in ("warning", "error")] == []
    assert (said.code, document["healthy"]) == (0, True)
    subjects = [each["subject"] for each in document["findings"]]
    assert subjects == [
        "settings", "catalogue", "ledger", "hot state", "features", "model", "posterior", "drift", "keys", "gate",
    ]  # fmt: skip


def test_an_alias_that_was_moved_by_hand_is_seen(shop_settings: Settings) -> None:
    tracking = Tracking(shop_settings)
    served = tracking.version_by_alias("simulated", CHAMPION)
    assert served is not None
    other = tracking.register(served.run_id, "simulated", *_booster())
    tracking.point_alias("simulated", CHAMPION, other)
    try:
        [line] = [each for each in findings(shop_settings, now=datetime.now(UTC)) if each.subject == "model"]
        assert line.level == "warning"
        assert f"'champion' names version {other}" in line.found
    finally:
        tracking.point_alias("simulated", CHAMPION, served.version)


def test_exploring_by_an_ensemble_that_the_model_lacks_is_seen(
    shop_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = steps.released(shop_settings).blueprint.content
    placements = tuple(
        msgspec.structs.replace(each, exploration=BootstrapThompson()) if each.is_push else each
        for each in content.placements
    )
    release = Release({BLUEPRINT: msgspec.structs.replace(content, placements=placements)}, version="sha256:t")
    monkeypatch.setattr(steps, "released", lambda _: release)
    [line] = [each for each in findings(shop_settings, now=datetime.now(UTC)) if each.subject == "exploration"]
    assert line.level == "warning"
    assert "bootstrap_thompson explores by an ensemble, and model 1 has none" in line.found


def test_a_posterior_that_stands_still_is_seen(shop_settings: Settings) -> None:
    with closing(BlobStore(shop_settings)) as blobs:
        served = blobs.pointer(bundle_pointer("simulated"))
    store = open_posterior(shop_settings)
    counts = encoded({Cell("", "card", "web", "home_hero", 7, 1, -6): Tally(12, 1, 0)})
    try:
        for behind, level, words in ((0, "ok", "12 exposures"), (500, "warning", "500 decisions are not counted")):
            counted = Counted(served or "", "rules", _decisions(shop_settings) - behind, 0, 0, counts)
            store.keep(msgspec.msgpack.encode(counted), b"", over=store.revision())
            [line] = [each for each in findings(shop_settings, now=datetime.now(UTC)) if each.subject == "posterior"]
            assert (line.level, words in line.found) == (level, True), line
    finally:
        store.forget()


def _decisions(settings: Settings) -> int:
    with closing(Arrivals(settings)) as arrivals:
        return arrivals.end().decisions


def test_the_gate_says_what_it_was_asked_and_what_was_not_finished(shop_settings: Settings, tmp_path: Path) -> None:
    def line(settings: Settings) -> Finding:
        return next(each for each in findings(settings, now=datetime.now(UTC)) if each.subject == "gate")

    said = line(shop_settings)
    assert said.level == "ok"
    assert said.found.startswith("asked 1 times in 30 days, last at ")
    assert said.found.endswith("0.00% of the 5% spent that a schedule may err by; no learner runs")
    cut_short = replace(shop_settings, home=tmp_path / "home")
    attempt = msgspec.structs.replace(last_attempt(shop_settings, "simulated"), outcome="passed")
    keep_attempt(cut_short, attempt)
    with held(cut_short, "learn/simulated", what="learner"):
        warned = line(cut_short)
    assert warned.level == "warning"
    assert "passed at" in warned.found
    assert "nextmove learn --once" in warned.to_do


def _booster() -> tuple[object, int]:
    import lightgbm as lgb
    import numpy as np

    rows = lgb.Dataset(np.arange(100.0).reshape(50, 2), label=np.arange(50) % 2)
    return lgb.train({"objective": "binary", "verbose": -1}, rows, num_boost_round=1), 2


def test_what_is_missing_is_an_error_and_the_rest_is_still_checked(shop_settings: Settings, tmp_path: Path) -> None:
    empty = replace(shop_settings, home=tmp_path)
    assert levels(empty) == {"settings": "error"}
    with closing(FeedCounts(empty)):
        pass
    found = levels(empty)
    assert found == {
        "settings": "ok",
        "catalogue": "error",
        "ledger": "ok",
        "hot state": "ok",
        "features": "error",
        "model": "error",
        "posterior": "ok",
        "drift": "note",
        "keys": "note",
        "gate": "ok",
    }


def test_a_damaged_hot_state_is_one_line(shop_settings: Settings, tmp_path: Path) -> None:
    broken = replace(shop_settings, home=tmp_path)
    with closing(FeedCounts(broken)):
        pass
    broken.hot_path.write_bytes(b"no database at all" * 100)
    [line] = [each for each in findings(broken, now=datetime.now(UTC)) if each.subject == "hot state"]
    assert line.level in ("error", "warning")


def test_an_audience_that_nobody_has_counted_for_long_is_a_warning(shop_settings: Settings, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(shop_settings.home, home)
    counted = replace(shop_settings, home=home)
    keep_sizes(counted, [Size("global", "audience", "loyal", datetime.now(UTC) - timedelta(days=20), 9, 10)])
    [line] = [each for each in findings(counted, now=datetime.now(UTC)) if each.subject == "audiences"]
    assert (line.level, line.found) == ("warning", "audiences were counted last 20 days ago; run: nextmove audience")


def test_a_feed_that_stopped_makes_the_exit_code_one(
    shop_settings: Settings, tmp_path: Path, nextmove: Callable[..., Said]
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(shop_settings.home, home)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [hour - number * HOUR for number in range(12, 5 * 168)]
    with closing(FeedCounts(replace(shop_settings, home=home))) as feeds:
        feeds.add(FeedCount("till", "outcome:purchase", each, "received", 20, each) for each in hours)
    said = nextmove("doctor", home=home)
    assert said.code == 1
    assert f"till: has stopped, or nearly so, since {hour - 11 * HOUR:%Y-%m-%d %H:%M} UTC" in said.out
    assert "-> ask unknown; decisions that need them are not learnt from" in said.out
    assert said.err.strip().endswith("next: nextmove doctor")
