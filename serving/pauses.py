"""The emergency stop: an action that somebody pauses is not shown by the next decision, anywhere.

A pause holds once it is in hot state, and outlives hot state once it is in the ledger. Each is tried
even if the other fails: a stop must not wait for a ledger that is down. Nothing but a resume ends it,
and a resume is kept first, so that no restart stops anew what somebody has let go on.
"""

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Literal

import msgspec

from decisioning.catalog import Release
from decisioning.errors import StillPaused, StoreError
from decisioning.profile import Subject
from decisioning.record import AuditRecord, lifts
from serving.ports import HotState, Ledger


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why, and in which market; in all of them when none is named.

    The market `global` is the blueprint: requests that name no market.
    """

    reason: str = ""
    market: str | None = None


class PauseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What holds from now on.

    `markets` are those whose requests it holds for; `global` stands for requests that name none.
    """

    action_id: str
    market: str | None
    markets: tuple[str, ...]
    status: Literal["paused", "resumed"]
    at: datetime
    reason: str


class Pauses:
    """Stops and resumes actions, and keeps who did it and why."""

    def __init__(self, hot_state: HotState, ledger: Ledger) -> None:
        self._hot_state = hot_state
        self._ledger = ledger

    async def put(
        self, action_id: str, request: PauseRequest, release: Release, *, paused: bool, actor: str, now: datetime
    ) -> PauseAnswer:
        """Pause or resume; again changes nothing but is audited too.

        Raises:
            RequestError: The market does not exist.
            StillPaused: It is to go on in one market, but is paused in all.
            StoreError: It does not hold, or is not kept; the message says which, and sending it again is safe.
        """
        release.of(request.market)
        entry = AuditRecord(
            at=now,
            domain=release.domain,
            actor=actor,
            what="action.pause" if paused else "action.resume",
            subject=action_id if request.market is None else f"{request.market}/{action_id}",
            reason=request.reason,
        )
        if paused:
            await self._pause(entry)
        else:
            await self._resume(entry, action_id)
        return PauseAnswer(
            action_id=action_id,
            market=request.market,
            markets=tuple(sorted(release.markets)) if request.market is None else (request.market,),
            status="paused" if paused else "resumed",
            at=now,
            reason=request.reason,
        )

    async def _pause(self, entry: AuditRecord) -> None:
        unheld = await _failure(self._hot_state.pause(entry.subject, paused=True))
        unkept = await _failure(self._ledger.append_audit(entry))
        if unheld is not None and unkept is not None:
            raise StoreError(f"{entry.subject} is not paused; send it again: {unheld}; {unkept}") from unheld
        if unheld is not None:
            raise StoreError(
                f"that {entry.subject} is paused is kept, but it does not hold yet; send it again: {unheld}"
            ) from unheld
        if unkept is not None:
            raise StoreError(
                f"{entry.subject} is paused, but that could not be kept; send it again: {unkept}"
            ) from unkept

    async def _resume(self, entry: AuditRecord, action_id: str) -> None:
        try:
            held = (await self._hot_state.read(Subject(""), now=entry.at)).paused
            if entry.subject != action_id and action_id in held:
                raise StillPaused(
                    f"{action_id} is paused in all markets, so it cannot go on in one; resume it without a market,"
                    " and pause it in those where it must not be shown",
                    where="market",
                )
            await self._ledger.append_audit(entry)
        except StoreError as error:
            raise StoreError(f"{entry.subject} is not resumed; send it again: {error}") from error
        lifted = {entry.subject, *(name for name in held if lifts(entry.subject, name))}
        for name in sorted(lifted):
            unheld = await _failure(self._hot_state.pause(name, paused=False))
            if unheld is not None:
                raise StoreError(
                    f"that {entry.subject} is resumed is kept, but it does not hold yet; send it again: {unheld}"
                ) from unheld


async def _failure(call: Coroutine[Any, Any, None]) -> StoreError | None:
    try:
        await call
    except StoreError as error:
        return error
    return None
