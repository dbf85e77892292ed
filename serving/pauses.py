"""The emergency stop: an action that somebody pauses is not shown by the next decision, anywhere."""

from datetime import datetime
from typing import Literal

import msgspec

from decisioning.catalog import Release
from decisioning.errors import StoreError
from decisioning.record import AuditRecord
from serving.ports import HotState, Ledger


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why, and in which market; in all of them when none is named."""

    reason: str = ""
    market: str | None = None


class PauseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What holds from now on."""

    action_id: str
    market: str | None
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
            StoreError: It did not take effect, or it did and could not be kept; the message says which.
        """
        release.of(request.market)
        subject = action_id if request.market is None else f"{request.market}/{action_id}"
        await self._hot_state.pause(subject, paused=paused)
        try:
            await self._ledger.append_audit(
                AuditRecord(
                    at=now,
                    domain=release.domain,
                    actor=actor,
                    what="action.pause" if paused else "action.resume",
                    subject=subject,
                    reason=request.reason,
                )
            )
        except StoreError as error:
            done = "paused" if paused else "resumed"
            raise StoreError(f"{action_id} is {done}, but that could not be kept; send it again: {error}") from error
        return PauseAnswer(
            action_id=action_id,
            market=request.market,
            status="paused" if paused else "resumed",
            at=now,
            reason=request.reason,
        )
