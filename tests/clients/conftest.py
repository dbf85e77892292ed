"""A service on a port of its own, over fakes, and the environment of other companies' clients."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import values

from serving.http.app import Routes, create_app
from serving.http.metrics import Metrics
from tests.serving.test_callers import SECRET, callers_with, key
from tests.serving.test_engine import Shop

CLIENTS = Path(sys.prefix) / "clients" / "bin" / "python"
KEY = f"nm_k1_{SECRET}"


class Site:
    """A running service: its address, and hands on what it keeps."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.shop = shop
        self.url = url

    def play(self, script: str) -> str:
        """What a program prints that uses a client; `URL` and `KEY` are in its environment."""
        done = subprocess.run(
            [CLIENTS, "-c", script],
            env={"URL": self.url, "KEY": KEY},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    if not CLIENTS.exists():
        if os.environ.get("NEXTMOVE_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{CLIENTS} is missing; run: make clients")
        pytest.skip("the clients of others are not installed; run: make clients")
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    shop = Shop()
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    app = create_app(
        Routes(lambda: shop.engine, metrics), metrics, callers_with(key(name="web", scopes=("decide", "ingest")))
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(shop, f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join()
