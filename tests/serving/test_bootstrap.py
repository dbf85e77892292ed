import asyncio
import hashlib
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import values

from decisioning.content_types import BLUEPRINT
from decisioning.errors import BundleError, CatalogError, SetupError, StoreError
from decisioning.exploration import BootstrapThompson
from decisioning.record import AuditRecord
from serving import bootstrap
from serving.bootstrap import draw_key, live_release, open_engine, open_stores
from serving.follower import Follower
from serving.http.problems import Unauthorized
from serving.runtime import Runtime
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.catalog_files import catalog_pointer
from storage.hot_state.redis_values import Keys
from storage.keys import KeyStore
from storage.settings import Settings
from tests.builders import NOW, catalog, content, placement, request
from tests.fakes import FakeFeatures, FakeHotState, FakeScorer
from tests.serving.test_engine import Shop
from tests.serving.tokens import AUDIENCE, ISSUER, jwks
from tests.serving.tokens import token as issued
from tests.storage.hot_stores import CUSTOMER, REDIS_URL, charged, mails, settings_for
from tests.storage.kept import NOW as STORED


def test_services_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    settings, keys = Settings(home=tmp_path), []
    threads = [threading.Thread(target=lambda: keys.append(draw_key(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["draw.key"]
    assert (tmp_path / "draw.key").stat().st_mode & 0o077 == 0


def test_a_damaged_secret_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "draw.key").write_bytes(b"short")
    with pytest.raises(SetupError, match="must have 32"):
        draw_key(Settings(home=tmp_path))


def test_a_secret_can_be_set(tmp_path: Path) -> None:
    assert draw_key(Settings(home=tmp_path, draw_secret="0123456789abcdef")).secret == b"0123456789abcdef"


class Pointers:
    """A blob store whose pointers name what is not there, or break."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def pointer(self, name: str) -> str:
        if self.error is not None:
            raise self.error
        return "0" * 64

    def get(self, sha256: str) -> bytes:
        return b"{}"

    def history(self, name: str) -> list[Any]:
        return []


@pytest.mark.parametrize("error", [None, MemoryError("full"), OSError("gone")])
def test_whatever_breaks_is_a_warning_and_what_is_served_stays(error: Exception | None) -> None:
    shop, pointers, failures = Shop(), Pointers(), []
    pointers.error = error
    blobs: Any = pointers
    follower = Follower(shop.engine, blobs, Settings(domain="shop"), take_keys=lambda: None, on_failure=failures.append)
    served = shop.engine.scorer
    follower.check()
    follower.check()
    # The same bundle is named as the challenger: one that is served casts no shadow.
    broken = {"bundle", "next-stage model", "catalog", *([] if error is None else ["shadow"])}
    assert {warning.partition(":")[0] for warning in follower.warnings()} == broken
    assert shop.engine.scorer is served
    assert set(failures) == broken


def test_that_the_model_lacks_what_the_catalogue_explores_by_is_a_warning() -> None:
    letter = placement(shown_by="sent", exploration=BootstrapThompson())
    blobs: Any = Pointers()
    for scorer, said in ((FakeScorer(), ["exploration: home_hero"]), (FakeScorer(members={"card": [0.1, 0.2]}), [])):
        engine = Shop(catalog(placements=(letter,)), scorer=scorer).engine
        follower = Follower(engine, blobs, Settings(domain="shop"), take_keys=lambda: None, on_failure=lambda _: None)
        assert [warning.partition(": boot")[0] for warning in follower.warnings()] == said


def test_an_engine_starts_with_the_pauses_that_the_ledger_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    blobs, ledger = open_stores(settings)
    release = Shop().engine.release
    monkeypatch.setattr(bootstrap, "live_release", lambda *_: release)
    monkeypatch.setattr(bootstrap, "open_feature_store", lambda _: None)
    monkeypatch.setattr(bootstrap, "FeastFeatures", lambda *_: FakeFeatures())
    for what, subject in (("pause", "card"), ("pause", "de/loan"), ("resume", "de/loan")):
        entry = AuditRecord(
            at=NOW, domain=settings.domain, actor="ann", what=f"action.{what}", subject=subject, reason=""
        )
        asyncio.run(ledger.append_audit(entry))
    broken = FakeHotState()
    broken.down = True
    hot_state: Any = broken
    record = asyncio.run(open_engine(settings, blobs, ledger, hot_state).decide(request(), now=NOW))
    ledger.close()
    assert record.paused == ("card",)


def named(*blobs: bytes, settings: Settings) -> BlobStore:
    """A blob store whose catalogue pointer named these, one after the other."""
    store = BlobStore(settings)
    for blob in blobs:
        store.point(catalog_pointer(settings.domain), store.put(blob), now=NOW, reason="test")
    return store


def catalogue(domain: str = "shop", **overrides: Any) -> bytes:
    return msgspec.json.encode({BLUEPRINT: content(domain=domain, **overrides)})


BROKEN = b'{"global": 1}'


def test_a_start_goes_back_to_the_newest_catalogue_that_can_be_served(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", domain="shop")
    good = catalogue()
    blobs = named(catalogue(language="fr"), good, catalogue("bank"), BROKEN, settings=settings)
    shop = Shop()
    follower = Follower(shop.engine, blobs, settings, take_keys=lambda: None, on_failure=lambda _: None)

    shop.engine.release = live_release(blobs, settings)
    follower.check()

    assert shop.engine.release.version == f"sha256:{hashlib.sha256(good).hexdigest()}"
    [warning] = [said for said in follower.warnings() if said.startswith("catalog: ")]
    assert "the released catalogue cannot be read" in warning
    blobs.close()


def test_where_no_catalogue_can_be_served_the_newest_says_why(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", domain="shop")
    blobs = named(BROKEN, catalogue("bank"), settings=settings)

    with pytest.raises(CatalogError, match="is of 'bank', must be of 'shop'"):
        live_release(blobs, settings)
    blobs.close()


def test_another_domains_catalogue_is_not_followed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", domain="shop")
    blobs, shop = named(catalogue("bank"), settings=settings), Shop()
    follower = Follower(shop.engine, blobs, settings, take_keys=lambda: None, on_failure=lambda _: None)
    served = shop.engine.release

    follower.check()

    assert shop.engine.release is served
    assert any("is of 'bank', must be of 'shop'" in said for said in follower.warnings())
    blobs.close()


def test_a_broken_catalogue_that_is_released_a_second_time_is_told_again(tmp_path: Path) -> None:
    settings, failures = Settings(home=tmp_path / "home", domain="shop"), []
    good = catalogue()
    blobs, shop = named(good, settings=settings), Shop()
    follower = Follower(shop.engine, blobs, settings, take_keys=lambda: None, on_failure=failures.append)
    for blob, expected in ((good, 0), (BROKEN, 1), (good, 1), (BROKEN, 2)):
        blobs.point(catalog_pointer("shop"), blobs.put(blob), now=NOW, reason="test")
        follower.check()
        follower.check()
        assert failures.count("catalog") == expected
        assert any(said.startswith("catalog: ") for said in follower.warnings()) == (blob is BROKEN)
    blobs.close()


def test_a_start_goes_back_to_the_newest_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home", domain="shop")
    blobs, shop = named(catalogue(), settings=settings), Shop()
    for blob in (b"good", b"broken"):
        blobs.point(bundle_pointer("shop"), blobs.put(blob), now=NOW, reason="test")
    follower = Follower(shop.engine, blobs, settings, take_keys=lambda: None, on_failure=lambda _: None)
    good, scorer = hashlib.sha256(b"good").hexdigest(), shop.scorer

    def take(sha256: str) -> None:
        if sha256 != good:
            raise BundleError("it does not score as it was built")
        shop.engine.scorer = scorer

    monkeypatch.setattr(follower, "_take_bundle", take)
    shop.engine.scorer = None
    follower.check()

    assert shop.engine.scorer is scorer
    [warning] = [said for said in follower.warnings() if said.startswith("bundle: ")]
    assert "it does not score as it was built" in warning
    assert f"bundle {good[:12]}, released before, is served instead" in warning
    blobs.close()


@pytest.mark.services
def test_a_service_that_stops_gives_back_what_it_leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with settings_for("redis", Settings(home=tmp_path / "home", domain="shop")) as settings:
        named(catalogue(), settings=settings).close()
        monkeypatch.setattr(bootstrap, "open_feature_store", lambda _: None)
        monkeypatch.setattr(bootstrap, "FeastFeatures", lambda *_: FakeFeatures())
        runtime, budget = Runtime(), mails(1000.0, starts=STORED - timedelta(days=1))
        runtime.open(settings)
        assert not any("hot state" in said for said in runtime.readiness().warnings)
        hot: Any = runtime.engine._hot_state

        async def decide_and_stop() -> None:
            await hot.reserve(charged(budget, confirmed=True))
            runtime.close()
            await asyncio.sleep(0)

        asyncio.run(decide_and_stop())

        with redis.Redis.from_url(REDIS_URL) as client:
            known = client.hgetall(Keys(settings.redis_prefix, "shop").budget("mails")[0])
        assert [int(amount) for name, amount in known.items() if b"/" in name] == [1_000_000]


GAUGE = "nextmove_hot_state_lost"


@pytest.mark.services
def test_readiness_and_metrics_say_while_hot_state_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)  # some libraries make the process count in files
    with settings_for("redis", Settings(home=tmp_path / "home", domain="shop")) as settings:
        named(catalogue(), settings=settings).close()
        monkeypatch.setattr(bootstrap, "open_feature_store", lambda _: None)
        monkeypatch.setattr(bootstrap, "FeastFeatures", lambda *_: FakeFeatures())
        runtime = Runtime()
        runtime.open(settings)
        hot: Any = runtime.engine._hot_state
        hot._on_loss = None  # nobody fills it
        paused = Keys(settings.redis_prefix, "shop").paused

        def lost() -> list[str]:
            return [line for line in runtime.metrics.render().decode().splitlines() if line.startswith(GAUGE)]

        assert lost() == [f"{GAUGE} 0.0"]
        with asyncio.Runner() as runner, redis.Redis.from_url(REDIS_URL) as client:
            known = client.smembers(paused)
            client.delete(paused)
            with pytest.raises(StoreError):
                runner.run(hot.read(CUSTOMER, now=STORED))
            assert any("has lost what it knew" in said for said in runtime.readiness().warnings)
            assert lost() == [f"{GAUGE} 1.0"]

            client.sadd(paused, *known)  # somebody has filled it
            runner.run(hot.read(CUSTOMER, now=STORED))
            assert lost() == [f"{GAUGE} 0.0"]
            runtime.close()


def opened(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    named(catalogue(), settings=settings).close()
    monkeypatch.setattr(bootstrap, "open_feature_store", lambda _: None)
    monkeypatch.setattr(bootstrap, "FeastFeatures", lambda *_: FakeFeatures())
    runtime = Runtime()
    runtime.open(settings)
    return runtime


def test_a_running_service_takes_new_keys_drops_revoked_ones_and_keeps_the_last_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=tmp_path / "home", domain="shop", pointer_poll_seconds=3600.0)
    runtime = opened(settings, monkeypatch)
    opened_parts: Any = runtime._opened
    poll = opened_parts.follower.check
    assert runtime.readiness().access == "loopback"
    with closing(KeyStore(settings)) as store:
        key, token = store.create("shop", scopes=("decide",), now=NOW, actor="ann")
        poll()
        assert runtime.readiness().access == "authenticated"
        assert "callers with a key or token only" in caplog.text
        assert runtime.callers.by_key(token).name == "shop"

        with monkeypatch.context() as broken:
            broken.setattr(KeyStore, "all", lambda _: (_ for _ in ()).throw(StoreError("the ledger cannot be read")))
            poll()
        assert runtime.callers.by_key(token).name == "shop"
        assert "keys: the ledger cannot be read; those last known stay" in runtime.readiness().warnings

        store.revoke(key.key_id, now=NOW, actor="ann")
    poll()
    assert not any(warning.startswith("keys") for warning in runtime.readiness().warnings)
    with pytest.raises(Unauthorized):
        runtime.callers.by_key(token)
    assert runtime.readiness().access == "authenticated"
    assert token not in caplog.text
    runtime.close()


def test_a_service_knows_the_hooks_secrets_from_when_it_opens_and_does_not_open_without_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "hooks.toml"
    settings = Settings(home=tmp_path / "home", domain="shop", hook_secrets=secrets)
    with pytest.raises(SetupError, match="hook_secrets cannot be read"):
        opened(settings, monkeypatch)
    secrets.write_text('mail = "a-secret-of-the-hook"\n')
    runtime = opened(settings, monkeypatch)
    assert runtime.hook_secrets == {"mail": "a-secret-of-the-hook"}
    runtime.close()


def test_a_service_that_cannot_read_who_may_call_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyStore, "all", lambda _: (_ for _ in ()).throw(StoreError("the ledger cannot be read")))
    with pytest.raises(StoreError):
        opened(Settings(home=tmp_path / "home", domain="shop"), monkeypatch)


def test_an_issuer_s_keys_are_read_at_the_start_and_readiness_says_where_they_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jwks_path = tmp_path / "keys.json"
    settings = Settings(
        home=tmp_path / "home", domain="shop", jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(jwks_path)
    )
    runtime = opened(settings, monkeypatch)
    assert any("keys.json" in warning for warning in runtime.readiness().warnings)
    assert runtime.readiness().access == "authenticated"
    runtime.close()
    jwks_path.write_bytes(jwks())
    runtime = opened(settings, monkeypatch)
    assert not any("keys.json" in warning for warning in runtime.readiness().warnings)
    assert runtime.callers.by_headers({"authorization": f"Bearer {issued()}"}).name == "ann"
    runtime.close()
