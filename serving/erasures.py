"""Works off requests for erasure in the background: in a thread, one process of the state directory at a time."""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import Engine

from decisioning.errors import NextmoveError
from storage.privacy.erasure import advance, erasing_alone, is_due
from storage.privacy.requests import PrivacyRequest, note, request_of, requests_of
from storage.settings import Settings

logger = logging.getLogger(__name__)
TRY_AGAIN = timedelta(seconds=30)


class _Stopped(Exception):
    """The service ends; the request goes on where it was when it starts again."""


class Erasures:
    """A request that a process began and did not end is taken up by the next one."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._stopping = False
        self._wake = threading.Event()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="erasures", daemon=True)

    def start(self) -> None:
        """Work until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next step, and wait for it."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """There is a new request."""
        self._wake.set()

    @property
    def problem(self) -> str | None:
        """What keeps a request from being done; None where nothing does."""
        return self._problem

    def check(self, *, now: datetime) -> None:
        """Do what is due, unless another process is at it.

        Raises:
            StoreError: The ledger cannot be used.
        """
        if not any(is_due(request, now=now) for request in self._pending()):
            return
        with erasing_alone(self._settings, wait=False) as alone:
            if not alone:
                return
            for known in self._pending():
                request = request_of(self._engine, self._settings.domain, known.request_id)
                if request is not None and is_due(request, now=now):
                    self._advance(request, now)

    def _pending(self) -> list[PrivacyRequest]:
        return requests_of(self._engine, self._settings.domain, state="pending")

    def _advance(self, request: PrivacyRequest, now: datetime) -> None:
        try:
            advance(self._settings, self._engine, request, now=now, reached=self._go_on)
        except NextmoveError as error:
            progress = msgspec.structs.replace(request.progress, problem=error.message)
            note(self._engine, msgspec.structs.replace(request, progress=progress))
            raise

    def _go_on(self, _step: str) -> None:
        if self._stopping:
            raise _Stopped

    def _run(self) -> None:
        not_before = float("-inf")
        while not self._stopping:
            self._wake.wait(self._settings.pointer_poll_seconds)
            self._wake.clear()
            if self._stopping or time.monotonic() < not_before:
                continue
            try:
                self.check(now=datetime.now(UTC))
                self._problem = None
            except _Stopped:
                return
            except Exception as error:  # whatever it is, it must not end the thread
                said = error.message if isinstance(error, NextmoveError) else repr(error)
                self._problem = f"erasure: {said}; it is tried again"
                logger.error("an erasure is not done yet and is tried again: %s", said)
                not_before = time.monotonic() + TRY_AGAIN.total_seconds()
