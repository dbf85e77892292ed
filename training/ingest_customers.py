"""Customers of one's own into Feast, and their consents into the ledger and hot state, part by part.

A run takes what is new or changed since the runs before it. What a part says is in all stores before the
part is noted as known, so that a run that was stopped is simply run again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd

from decisioning.content_types import FeatureKind
from decisioning.errors import StoreError
from decisioning.profile import ConsentChange
from storage.customer_schema import CustomerSchema, read_schemas, write_schema
from storage.data_mapping import CustomerColumns, feature_column
from storage.event_batches import Rejected
from storage.feature_kinds import Features, found_features, named_features
from storage.feature_lock import alone_with_features
from storage.feature_store import open_feature_store
from storage.ingested import FOLDER, RejectFile
from storage.known_customers import KnownCustomers, version_key
from storage.mapped_customers import CustomerMapper, MappedCustomer, SaidConsent, midnight
from storage.row_files import FileRow
from storage.row_values import Mistake, Wrong
from storage.settings import Settings
from training.customer_table import CustomerTable
from training.features import apply_feature_repo, domain_views, offline_path
from training.without_erased import erased_in

SHOWN = 20
CHUNK = 5_000  # Feast holds a part as protocol buffers, about 15 KB a customer
OVERLAP = timedelta(hours=1)  # a row may be committed after others that say a later time
Stage = Literal["offline", "online", "consents", "noted"]


class Rows(Protocol):
    """Where customers are read from; `storage.row_files.RowFile` is one."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def share(self) -> float:
        """How much of it is read, from 0 to 1."""
        ...

    def rows(self) -> Iterator[FileRow]:
        """Every row, from the first."""
        ...


@dataclass(slots=True, kw_only=True)
class IngestedCustomers:
    """What a run made of a table of customers.

    Attributes:
        features: All features with their kinds; `found`: those whose kinds the data told, in this run.
        rows: Rows that were read; `left_out`: not wanted by the mapping; `older`: not changed since the last run.
        new, changed, unchanged: Customers, or versions of them where the mapping says a time.
        erased: Rows of customers of whom nothing may be kept.
        repeated: Rows that say again what another row of the table says.
        consents: Words on consents that are new.
        rejected: Rows that could not be used; `mistakes` says why, for the first of them.
        customers: How many are known now.
    """

    domain: str
    source: str
    features: dict[str, FeatureKind] = field(default_factory=dict)
    found: bool = False
    rows: int = 0
    left_out: int = 0
    older: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    erased: int = 0
    repeated: int = 0
    consents: int = 0
    rejected: int = 0
    mistakes: list[str] = field(default_factory=list)
    reject_file: str | None = None
    customers: int = 0

    @property
    def all_bad(self) -> bool:
        """Whether there were mistakes and nothing else."""
        return self.rejected > 0 and self.new + self.changed + self.unchanged == 0


class _Version(NamedTuple):
    """A customer whose row says something new."""

    customer: MappedCustomer
    key: bytes
    at: datetime


def ingest_customers(
    settings: Settings,
    domain: str,
    rows: Rows,
    mapping: CustomerColumns,
    *,
    known: KnownCustomers,
    now: datetime,
    write_consents: Callable[[list[ConsentChange]], int],
    progress: Callable[[str, float, IngestedCustomers], None] = lambda _what, _share, _report: None,
    reached: Callable[[Stage], None] = lambda _stage: None,
) -> IngestedCustomers:
    """Take in what is new or changed among these rows; a service may run meanwhile.

    Customers that are no longer among the rows stay. Under a mapping that means something else every row is
    looked at once more. Of customers who were erased nothing is taken. `progress` is told what is done and how
    much of it, from 0 to 1; `reached` is called after each stage of each part.

    Raises:
        DataError: The rows cannot be read at all or any further, or no column is left to be a feature.
        StoreError: A store cannot be written now. What was taken in stays; run it again.
    """
    report = IngestedCustomers(domain=domain, source=rows.name)
    timing = f"{mapping.time} {mapping.since}"
    if known.timing != timing:
        known.forget_versions()
    if known.meaning != mapping.digest:
        known.note("read_until", None)
    features = _features(settings, domain, rows, mapping, known, progress, report)
    report.features = {name: each.type for name, each in features.items() if each.type is not None}
    write_schema(settings, CustomerSchema(domain=domain, features=features))
    known.note("meaning", mapping.digest)
    known.note("timing", timing)
    stores = _Stores(settings, domain, report, known, write_consents, reached)
    mapper = CustomerMapper(mapping, features, now=now)
    read_until = known.read_until
    latest: datetime | None = None
    folder = settings.home / FOLDER
    with RejectFile(folder / f"customers-{domain}.rejected.jsonl", before=0) as rejects:
        source = rows.rows()
        while part := list(islice(source, CHUNK)):
            customers: list[MappedCustomer] = []
            for row in part:
                report.rows += 1
                try:
                    if row.mistake is None and mapper.leaves_out(row):
                        report.left_out += 1
                        continue
                    changed_at = mapper.updated_at(row)
                    if changed_at is not None:
                        latest = changed_at if latest is None else max(changed_at, latest)
                        if read_until is not None and changed_at < read_until:
                            report.older += 1
                            continue
                    customer = mapper.customer(row)
                    customers.append(customer._replace(customer_id=settings.pseudonyms.of(customer.customer_id)))
                except Wrong as wrong:
                    _reject(rejects, wrong.mistake, row, report)
            # Nobody is erased between the look at who is and the last store that is written.
            with alone_with_features(settings):
                erased = erased_in(settings, {customer.customer_id for customer in customers})
                others = [customer for customer in customers if customer.customer_id not in erased]
                report.erased += len(customers) - len(others)
                mistakes = stores.keep(others, mapping, now=now)
            for mistake, row in mistakes:
                _reject(rejects, mistake, row, report)
            rejects.flush()
            progress("customers", rows.share, report)
        report.reject_file = str(rejects.path) if rejects.rows else None
    progress("the offline table", 1.0, report)
    with alone_with_features(settings):
        stores.table.merge()
    # A row that could not be used is looked at again, until it can.
    if latest is not None and not report.rejected:
        known.note("read_until", latest - OVERLAP)
    report.customers = known.count()
    return report


def _features(
    settings: Settings,
    domain: str,
    rows: Rows,
    mapping: CustomerColumns,
    known: KnownCustomers,
    progress: Callable[[str, float, IngestedCustomers], None],
    report: IngestedCustomers,
) -> Features:
    """The domain's features: as the mapping names them, as an earlier run found them, or found out now."""
    named = named_features(mapping)
    if named is not None:
        return named
    before = next((schema for schema in read_schemas(settings) if schema.domain == domain), None)
    if before is not None and known.meaning == mapping.digest:
        return before.features

    def followed() -> Iterator[FileRow]:
        for number, row in enumerate(rows.rows(), start=1):
            if number % CHUNK == 0:
                progress("what the columns hold", rows.share, report)
            yield row

    report.found = True
    features = {name: feature_column(name, said) for name, said in mapping.features.items()}
    others = None if features else {*mapping.columns, *mapping.leave_out}
    return found_features(followed(), features, decimal=mapping.file.decimal, but=others)


class _Stores:
    """Where customers go."""

    def __init__(
        self,
        settings: Settings,
        domain: str,
        report: IngestedCustomers,
        known: KnownCustomers,
        write_consents: Callable[[list[ConsentChange]], int],
        reached: Callable[[Stage], None],
    ) -> None:
        self._report = report
        self._known = known
        self._write_consents = write_consents
        self._reached = reached
        self._feast = open_feature_store(settings)
        apply_feature_repo(self._feast, settings)
        [view] = domain_views(self._feast, domain)
        self._view: str = view.name
        self._lists = [name for name, kind in report.features.items() if kind == "texts"]
        self.table = CustomerTable(offline_path(settings, domain, "customers"), report.features, parts=known.parts)

    def keep(
        self, customers: list[MappedCustomer], mapping: CustomerColumns, *, now: datetime
    ) -> list[tuple[Mistake, FileRow]]:
        """Put what is new or changed into every store, then note it as known; returns what contradicts itself."""
        versions, met, mistakes = self._news(customers, mapping, now=now)
        newest: dict[str, _Version] = {}
        consents: list[ConsentChange] = []
        words: dict[str, dict[str, str]] = {}
        for version in versions:
            customer_id = version.customer.customer_id
            before = self._known.customer(customer_id)
            last = newest[customer_id].at if customer_id in newest else before.newest
            if last is None or version.at >= last:
                newest[customer_id] = version
                said = words.setdefault(customer_id, dict(before.consents))
                consents += _changes(version.customer, said, now=now)
        if versions:
            self.table.add([{**_keys(version, now), **version.customer.features} for version in versions])
            self._reached("offline")
            if newest:
                self._write_online([{**_keys(each, now), **each.customer.features} for each in newest.values()])
            self._reached("online")
            self._report.consents += self._write_consents(consents) if consents else 0
            self._reached("consents")
        self._known.begin()
        for key, digest in met.items():
            self._known.note_version(key, digest)
        for customer_id, version in newest.items():
            self._known.note_customer(customer_id, version.at, words[customer_id])
        self._known.note("parts", self.table.parts)
        self._known.commit()
        self._reached("noted")
        return mistakes

    def _news(
        self, customers: list[MappedCustomer], mapping: CustomerColumns, *, now: datetime
    ) -> tuple[list[_Version], dict[bytes, bytes], list[tuple[Mistake, FileRow]]]:
        """What is new or changed; what every row said, by its key; and rows that contradict others of this run."""
        versions: list[_Version] = []
        met: dict[bytes, bytes] = {}
        mistakes: list[tuple[Mistake, FileRow]] = []
        report = self._report
        for customer in customers:
            key = version_key(customer.customer_id, customer.at)
            digest = customer.digest
            before = self._known.version(key)
            said = met.get(key, before.digest if before is not None and before.run == self._known.run else None)
            if said is not None:
                if said == digest:
                    report.repeated += 1
                else:
                    words = "this customer stands in an earlier row with other values"
                    mistakes.append((Mistake(customer.row.number, None, words + _remedy(mapping)), customer.row))
                continue
            met[key] = digest
            if before is not None and before.digest == digest:
                report.unchanged += 1
                continue
            known = before is not None or self._known.customer(customer.customer_id).newest is not None
            at = customer.at
            if at is None:
                at = now if known or mapping.since is None else min(midnight(mapping.since), now)
            report.changed += known
            report.new += not known
            versions.append(_Version(customer, key, at))
        return versions, met, mistakes

    def _write_online(self, rows: list[dict[str, Any]]) -> None:
        frame = pd.DataFrame(rows)
        for name in self._lists:
            frame[name] = frame[name].map(list)
        try:
            self._feast.write_to_online_store(self._view, frame)
        except Exception as error:  # whatever a store's client raises
            raise StoreError(f"the online store cannot be written: {error}") from error


def _keys(version: _Version, now: datetime) -> dict[str, Any]:
    return {"customer_id": version.customer.customer_id, "event_timestamp": version.at, "ingested_at": now}


def _remedy(mapping: CustomerColumns) -> str:
    if mapping.time is not None:
        return " at the same time"
    return "; if rows are of different times, say `time` in the mapping"


def _changes(customer: MappedCustomer, said: dict[str, str], *, now: datetime) -> list[ConsentChange]:
    """Words on consents other than the last ones, which they replace in `said`.

    What was said elsewhere in between stands unless the table says something else than it did.
    """
    changes: list[ConsentChange] = []
    for consent in customer.consents:
        about = "/".join(consent.about)
        word = f"{consent.granted} {consent.at.isoformat() if consent.at is not None else ''}"
        if said.get(about) == word:
            continue
        changes.append(_change(customer.customer_id, consent, first=about not in said, now=now))
        said[about] = word
    return changes


def _change(customer_id: str, consent: SaidConsent, *, first: bool, now: datetime) -> ConsentChange:
    column, at = consent.column, consent.at
    if at is None:
        at = min(midnight(column.since), now) if first and column.since is not None else now
    return ConsentChange(
        customer_id=customer_id,
        purpose=column.purpose,
        channel=column.channel,
        granted=consent.granted,
        at=at,
        source=column.source,
        legal_basis=column.legal_basis,
    )


def _reject(rejects: RejectFile, mistake: Mistake, row: FileRow, report: IngestedCustomers) -> None:
    rejects.add(Rejected(mistake, [row]))
    report.rejected += 1
    if len(report.mistakes) < SHOWN:
        report.mistakes.append(mistake.shown(report.source))
