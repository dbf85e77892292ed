"""Running the service as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx

from decisioning.errors import SetupError
from storage.keys import KeyStore
from storage.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
START_SECONDS = 60.0
STOP_SECONDS = 15.0


def callers_must_say(settings: Settings) -> bool:
    """Whether callers need a key or token: there was a key once, or an issuer of tokens is set."""
    if settings.jwt_jwks is not None:
        return True
    if not settings.ledger_path.exists():
        return False
    with closing(KeyStore(settings)) as store:
        return bool(store.all())


def check_address(settings: Settings, host: str, port: int) -> None:
    """Refuse an address that must not or cannot be served.

    Raises:
        SetupError: It is not loopback while no keys are configured, or it is taken.
    """
    if host not in LOOPBACK and not callers_must_say(settings):
        raise SetupError(
            f"--host is {host}, but no keys are configured, so it must be one of {', '.join(LOOPBACK)};"
            " make a key first: nextmove keys create NAME --scope decide"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SetupError(f"port {port} on {host} cannot be served: {error}; choose another with --port") from error


def service_command(host: str, port: int) -> list[str]:
    """What runs the service; `nextmove serve` becomes this process."""
    return [
        sys.executable, "-m", "bentoml", "serve", "serving.service:Nextmove", "--host", host, "--port", str(port),
    ]  # fmt: skip


def service_environment(settings: Settings, workers: int) -> dict[str, str]:
    """The environment in which the service finds the same settings as this command."""
    return {
        **os.environ,
        "NEXTMOVE_HOME": str(settings.home),
        "NEXTMOVE_DOMAIN": settings.domain,
        "NEXTMOVE_WORKERS": str(workers),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # those of libraries, at every start
        "BENTOML_HOME": str(settings.home / "bentoml"),
    }


class Service:
    """The service in a child process, its output in a log file."""

    def __init__(self, settings: Settings, *, host: str = "127.0.0.1", port: int = 3000, workers: int = 1) -> None:
        self.url = f"http://{'localhost' if host in ('::1', '::', '0.0.0.0') else host}:{port}"  # noqa: S104
        self.log_path = settings.home / "service.log"
        self._log = self.log_path.open("ab")
        self._log_start = self.log_path.stat().st_size
        self.process = subprocess.Popen(  # noqa: S603
            service_command(host, port),
            env=service_environment(settings, workers),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def wait_until_ready(self) -> Mapping[str, object]:
        """What `/readyz` says once it says yes.

        Raises:
            SetupError: The process ended, or is not ready in time.
        """
        deadline = time.monotonic() + START_SECONDS
        said = "no answer"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SetupError(f"the service ended at start:\n{self._last_lines()}\nits log is {self.log_path}")
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=2.0)
                if answer.status_code == 200:
                    ready: Mapping[str, object] = answer.json()
                    return ready
                said = answer.text
            except httpx.HTTPError as error:
                said = str(error)
            time.sleep(0.1)
        raise SetupError(f"the service is not ready after {START_SECONDS:.0f} s: {said}; its log is {self.log_path}")

    def stop(self) -> None:
        """Ask it to finish what is in flight and end; insist after a while."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()

    def _last_lines(self) -> str:
        with Path(self.log_path).open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-5:])
