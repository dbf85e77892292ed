"""Requests for erasure: what was asked, how far it is, and whom it is about until it is done."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Engine, Row, insert, select, update
from ulid import ULID

from storage.id_digests import IdDigests
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.database import reading, writing
from storage.ledger.tables import audit, privacy_requests
from storage.privacy.tombstones import bury, dig_up

ERASURE = "erasure"


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a request is; `swept_at` is when the first sweep was through, `problem` what is in the way now."""

    actor: str
    counts: dict[str, int] = {}
    swept_at: datetime | None = None
    problem: str | None = None


class PrivacyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for erasure; `units` are all ids of the person, none once it is done."""

    request_id: str
    kind: str
    state: Literal["pending", "done"]
    requested_at: datetime
    completed_at: datetime | None
    units: tuple[str, ...]
    progress: Progress


def ask_for_erasure(
    engine: Engine, domain: str, units: Collection[str], digests: IdDigests, *, actor: str, now: datetime
) -> PrivacyRequest:
    """Keep the request, and that nothing of these ids may be kept from now on.

    Raises:
        StoreError: It could not be kept.
    """
    request = PrivacyRequest(
        request_id=str(ULID.from_datetime(now)),
        kind=ERASURE,
        state="pending",
        requested_at=now,
        completed_at=None,
        units=tuple(sorted(units)),
        progress=Progress(actor),
    )
    row = {
        "request_id": request.request_id,
        "domain": domain,
        "kind": request.kind,
        "state": request.state,
        "subject": msgspec.json.encode(request.units),
        "requested_at": to_microseconds(now),
        "record": msgspec.json.encode(request.progress),
    }
    with writing(engine) as connection:
        connection.execute(insert(privacy_requests), [row])
        bury(connection, domain, [digests.of(unit) for unit in units], now=now)
        said = _entry(domain, actor, "privacy.erase", request.request_id, f"{len(units)} ids", now)
        connection.execute(insert(audit), [said])
    return request


def readmit(engine: Engine, domain: str, unit: str, digests: IdDigests, *, actor: str, now: datetime) -> bool:
    """Let an erased id be a customer's again; whether it was erased.

    Raises:
        StoreError: It could not be kept.
    """
    digest = digests.of(unit)
    with writing(engine) as connection:
        found = dig_up(connection, domain, digest)
        if found:
            connection.execute(insert(audit), [_entry(domain, actor, "privacy.readmit", digest, "", now)])
    return found


def requests_of(engine: Engine, domain: str, *, state: str | None = None) -> list[PrivacyRequest]:
    """The domain's requests, in the order in which they came.

    Raises:
        StoreError: They cannot be read.
    """
    query = select(privacy_requests).where(privacy_requests.c.domain == domain)
    if state is not None:
        query = query.where(privacy_requests.c.state == state)
    with reading(engine) as connection:
        return [_request(row) for row in connection.execute(query.order_by(privacy_requests.c.requested_at))]


def request_of(engine: Engine, domain: str, request_id: str) -> PrivacyRequest | None:
    """One request.

    Raises:
        StoreError: It cannot be read.
    """
    this = privacy_requests.c.domain == domain, privacy_requests.c.request_id == request_id
    with reading(engine) as connection:
        row = connection.execute(select(privacy_requests).where(*this)).first()
    return None if row is None else _request(row)


def note(engine: Engine, request: PrivacyRequest) -> None:
    """Keep how far a request is; one that is done names nobody any more.

    Raises:
        StoreError: It could not be kept.
    """
    done = request.state == "done"
    values = {
        "state": request.state,
        "subject": None if done else msgspec.json.encode(request.units),
        "completed_at": None if request.completed_at is None else to_microseconds(request.completed_at),
        "record": msgspec.json.encode(request.progress),
    }
    with writing(engine) as connection:
        this = privacy_requests.c.request_id == request.request_id
        connection.execute(update(privacy_requests).where(this).values(**values))


def _request(row: Row[Any]) -> PrivacyRequest:
    return PrivacyRequest(
        request_id=row.request_id,
        kind=row.kind,
        state=row.state,
        requested_at=from_microseconds(row.requested_at),
        completed_at=None if row.completed_at is None else from_microseconds(row.completed_at),
        units=() if row.subject is None else msgspec.json.decode(row.subject, type=tuple[str, ...]),
        progress=msgspec.json.decode(row.record, type=Progress),
    )


def _entry(domain: str, actor: str, what: str, subject: str, reason: str, now: datetime) -> dict[str, Any]:
    at = to_microseconds(now)
    return {"at": at, "domain": domain, "actor": actor, "what": what, "subject": subject, "reason": reason}
