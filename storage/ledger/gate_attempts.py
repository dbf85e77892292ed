"""What the promotion gate was asked and said, kept before anything is done about it."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, select

from decisioning.errors import StoreError
from decisioning.record import AuditRecord
from storage.instants import to_microseconds
from storage.ledger.database import open_ledger, reading, writing
from storage.ledger.rows import audit_row
from storage.ledger.tables import audit, gate_attempts
from storage.settings import Settings

Named = tuple[str, float, float, float]  # a name, a value, its lower and its upper bound


class GateAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt.

    Attributes:
        scheduled: Asked by a schedule, so that its `alpha` is of the budget of 30 days.
        alpha: The error that it was allowed; 0 where there was no champion to be wrong about.
        outcome: `passed`, `refused`, or `forced` where a refusal was overruled, because of `forced`.
        since: Only decisions after this counted; None where nothing could be compared.
        against, findings: The verdict's sentences.
        comparisons: The model's reward a decision over other policies'.
        values: Reward a decision by policy.
    """

    domain: str
    at: datetime
    scheduled: bool
    alpha: float
    outcome: str
    run_id: str
    version: str
    bundle_sha256: str
    champion_version: str | None
    champion_sha256: str | None
    since: datetime | None
    n_decisions: int
    n_customers: int
    against: tuple[str, ...]
    findings: tuple[str, ...]
    comparisons: tuple[Named, ...]
    values: tuple[Named, ...]
    forced: str | None = None

    @property
    def lets_in(self) -> bool:
        """Whether the model is to be served."""
        return self.outcome != "refused"

    @property
    def key(self) -> str:
        """What tells it from others, in MLflow too."""
        return f"{self.at.isoformat()} {self.bundle_sha256[:12]}"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(GateAttempt)


def keep_attempt(settings: Settings, attempt: GateAttempt, *, audited: AuditRecord | None = None) -> None:
    """Keep it, and with it who overruled the gate, if anybody did.

    Raises:
        StoreError: It could not be kept.
    """
    row = {
        "domain": attempt.domain,
        "at": to_microseconds(attempt.at),
        "scheduled": attempt.scheduled,
        "alpha": attempt.alpha,
        "outcome": attempt.outcome,
        "bundle_sha256": attempt.bundle_sha256,
        "champion_sha256": attempt.champion_sha256,
        "record": _encoder.encode(attempt),
    }
    engine = open_ledger(settings)
    try:
        with writing(engine) as connection:
            connection.execute(gate_attempts.insert().values(row))
            if audited is not None:
                names = [column.name for column in audit.columns if column.name != "seq"]
                connection.execute(audit.insert().values(dict(zip(names, audit_row(audited), strict=True))))
    finally:
        engine.dispose()


def kept_attempts(settings: Settings, domain: str, *, since: datetime | None = None) -> list[GateAttempt]:
    """A domain's attempts, oldest first; later than `since`, if that is given.

    Raises:
        StoreError: The ledger cannot be read.
    """
    query = select(gate_attempts.c.record).where(gate_attempts.c.domain == domain).order_by(gate_attempts.c.seq)
    if since is not None:
        query = query.where(gate_attempts.c.at > to_microseconds(since))
    return _read(settings, query)


def last_attempt(settings: Settings, domain: str) -> GateAttempt | None:
    """The newest, or None.

    Raises:
        StoreError: The ledger cannot be read.
    """
    query = select(gate_attempts.c.record).where(gate_attempts.c.domain == domain)
    found = _read(settings, query.order_by(gate_attempts.c.seq.desc()).limit(1))
    return found[0] if found else None


def was_judged(settings: Settings, domain: str, bundle_sha256: str) -> bool:
    """Whether the gate was ever asked about this bundle.

    Raises:
        StoreError: The ledger cannot be read.
    """
    its = (gate_attempts.c.domain == domain) & (gate_attempts.c.bundle_sha256 == bundle_sha256)
    return bool(_read(settings, select(gate_attempts.c.record).where(its).limit(1)))


def _read(settings: Settings, query: Select[Any]) -> list[GateAttempt]:
    engine = open_ledger(settings)
    try:
        with reading(engine) as connection:
            return [_decoder.decode(record) for record in connection.execute(query).scalars()]
    except msgspec.MsgspecError as error:
        raise StoreError(f"an attempt at the gate cannot be read: {error}; restore the ledger from a backup") from error
    finally:
        engine.dispose()
