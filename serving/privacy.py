"""What people may ask of us under data protection law: to be erased, and to be told all that is held on them."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import Engine

from decisioning.catalog import Release
from decisioning.profile import Subject
from serving.customer_view import CustomerView, CustomerViews, Sees
from serving.ports import Features, HotState
from storage.id_digests import id_digests
from storage.privacy.export import export, holds_anything
from storage.privacy.newest import Newest
from storage.privacy.requests import PrivacyRequest, ask_for_erasure, request_of
from storage.settings import Settings


class PrivacyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A request and how far it is; `counts` are rows and files by where they were, `problem` what is in the way."""

    request_id: str
    kind: str
    status: Literal["pending", "done"]
    requested_at: datetime
    completed_at: datetime | None
    counts: dict[str, int]
    problem: str | None


def answer_of(request: PrivacyRequest) -> PrivacyAnswer:
    """The request as callers see it: it names nobody."""
    return PrivacyAnswer(
        request_id=request.request_id,
        kind=request.kind,
        status=request.state,
        requested_at=request.requested_at,
        completed_at=request.completed_at,
        counts=request.progress.counts,
        problem=request.progress.problem,
    )


class Privacy:
    """Takes requests; `wake` is called when there is one to work off."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        features: Features,
        hot_state: HotState,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._hot_state = hot_state
        self._digests = id_digests(settings)
        self._views = CustomerViews(features, hot_state, Newest(engine, settings.domain))
        self._wake = wake

    async def erase(self, customer_id: str, *, actor: str, now: datetime) -> PrivacyAnswer:
        """Let the person be erased from the next call on, by all their ids; the rest is done in the background.

        Raises:
            StoreError: It is not kept, or does not hold everywhere yet; ask again.
        """
        units = await self.units_of(customer_id, now=now)
        request = await asyncio.to_thread(
            ask_for_erasure, self._engine, self._settings.domain, units, self._digests, actor=actor, now=now
        )
        await self._hot_state.bury(units)
        self._wake()
        return answer_of(request)

    async def request(self, request_id: str) -> PrivacyAnswer | None:
        """A request; None where there is none."""
        request = await asyncio.to_thread(request_of, self._engine, self._settings.domain, request_id)
        return None if request is None else answer_of(request)

    async def view(
        self, customer_id: str, release: Release, *, market: str | None, sees: Sees, now: datetime
    ) -> CustomerView | None:
        """One view of the customer, as whoever may ask for this market sees it; see `CustomerViews.of`."""
        kept_as = self._settings.pseudonyms.of(customer_id)
        return await self._views.of(kept_as, release, market=market, sees=sees, now=now)

    async def export(self, customer_id: str, *, now: datetime) -> Iterator[bytes] | None:
        """Everything that is held on the person, in pieces that may take a while; None where there is nothing."""
        units = await self.units_of(customer_id, now=now)
        if not await asyncio.to_thread(holds_anything, self._settings, self._engine, units):
            return None
        return export(self._settings, self._engine, units, now=now)

    async def units_of(self, customer_id: str, *, now: datetime) -> tuple[str, ...]:
        """Every id of the person."""
        kept_as = self._settings.pseudonyms.of(customer_id)
        person = (await self._hot_state.read(Subject(kept_as), now=now)).person
        # Files that could not be taken in say the id itself.
        return tuple({*(person.members if person is not None else ()), kept_as, customer_id})
