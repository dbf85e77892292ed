"""A file of events into the ledger and hot state, part by part: each is durable before it is counted."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Literal

from decisioning.catalog import Release
from decisioning.currencies import is_unconverted
from decisioning.erased import units_of, without_erased
from decisioning.events import EventRecord, happened
from decisioning.identity import visitor
from decisioning.moments import awaited
from decisioning.state_change import StateChange
from decisioning.vocabulary import Vocabulary
from serving.events import translated_event
from serving.feeds import FeedTally
from storage.event_batches import Batch, Rejected, batches, resumed
from storage.event_mapping import EventMapping
from storage.hot_state.rebuild import StoredHotState, not_during_rebuild, open_hot_state
from storage.hot_state.state_replay import open_states
from storage.ingested import Ingested, RejectFile
from storage.ledger.bulk_events import BulkEvents
from storage.ledger.feed_counts import FeedCounts
from storage.mapped_events import EventMapper, MappedEvent
from storage.privacy.tombstones import Tombstones
from storage.released_features import released_features
from storage.row_files import RowFile
from storage.row_values import Mistake
from storage.settings import Settings

SHOWN = 20
Stage = Literal["ledger", "hot state", "noted"]


@dataclass(slots=True, kw_only=True)
class IngestedEvents:
    """What a run made of a file.

    Attributes:
        rows_before: Rows that earlier runs had taken in; `rows`: those of this one.
        left_out: Rows that the mapping does not want.
        accepted, duplicates, ignored: Events that are new, were kept before, are not wanted by their source or are
            of somebody who was erased.
        unmapped: New or known events whose name nobody has given a meaning, or whose currency has no rate.
        rejected: Rows that could not be used; `mistakes` says why, for the first of them.
        mistakes_found: How many mistakes there were.
    """

    file: str
    source: str
    rows_before: int = 0
    rows: int = 0
    left_out: int = 0
    accepted: int = 0
    duplicates: int = 0
    ignored: int = 0
    unmapped: int = 0
    rejected: int = 0
    mistakes_found: int = 0
    mistakes: list[str] = field(default_factory=list)
    reject_file: str | None = None
    unseen_columns: list[str] = field(default_factory=list)

    @property
    def all_bad(self) -> bool:
        """Whether there were mistakes and nothing else."""
        return self.mistakes_found > 0 and self.accepted + self.duplicates + self.ignored == 0


@dataclass(frozen=True, slots=True)
class _Stores:
    """Where events go."""

    settings: Settings
    ledger: BulkEvents
    tombstones: Tombstones
    hot_state: StoredHotState
    feeds: FeedTally
    feed_counts: FeedCounts
    release: Release | None


def ingest_events(
    settings: Settings,
    path: Path,
    mapping: EventMapping,
    *,
    source: str,
    vocabulary: Vocabulary,
    release: Release | None = None,
    now: datetime,
    progress: Callable[[float, IngestedEvents], None] = lambda _share, _report: None,
    reached: Callable[[Stage], None] = lambda _stage: None,
) -> IngestedEvents:
    """Take in what the file says that no earlier run has; a service may run meanwhile.

    With a `release`, events begin its moments. `progress` is told how much of the file is read, from 0 to 1.
    `reached` is called after each stage of each part.

    Raises:
        DataError: The file cannot be read at all or any further, or lacks a column.
        SetupError: The state directory cannot be used.
        StoreError: A store cannot be written now. What was taken in stays; run it again.
    """
    file = RowFile(path, mapping.file, needed=mapping.columns)
    mapper = EventMapper(mapping, source=source, now=now)
    ingested = Ingested(settings, mapping, source=source)
    report = IngestedEvents(file=file.name, source=source)
    hot_state = open_hot_state(settings, now=now)
    with (
        closing(hot_state),
        closing(BulkEvents(settings)) as ledger,
        closing(Tombstones(settings)) as tombstones,
        closing(FeedCounts(settings)) as feed_counts,
    ):
        stores = _Stores(settings, ledger, tombstones, hot_state, FeedTally(), feed_counts, release)
        rows, reading = resumed(file, ingested.known(in_ledger=ledger.contains))
        report.rows_before = reading.rows
        before = reading.mark().checkpoint
        ingested.go_on(before if before.rows else None)
        first = next(rows, None)
        with ingested.rejects(file.name, before=None if first is None else first.number) as rejects:
            witness: str | None = None
            noted = before
            for batch in batches(chain([] if first is None else [first], rows), mapper, reading):
                kept, conflicts = _keep(stores, batch, vocabulary, report, reached)
                stores.feeds.rejected(source, len(batch.rejected), now=now)
                stores.feed_counts.add(stores.feeds.take())
                _reject(rejects, _of_others(stores, [*batch.rejected, *conflicts], report), report)
                report.rows += batch.rows
                report.left_out += batch.left_out
                witness = kept or witness
                if batch.upto != noted:
                    rejects.flush()
                    ingested.note(batch.upto, file=file.name, witness=witness)
                    noted = batch.upto
                reached("noted")
                progress(file.share, report)
            report.reject_file = str(rejects.path) if rejects.rows else None
    report.unseen_columns = sorted(file.unseen) if report.rows else []
    return report


def _keep(
    stores: _Stores,
    batch: Batch,
    vocabulary: Vocabulary,
    report: IngestedEvents,
    reached: Callable[[Stage], None],
) -> tuple[str | None, list[Rejected]]:
    """The id of the last event that is kept now, and those whose id stands for another."""
    wanted: list[tuple[MappedEvent, EventRecord, bool]] = []
    names = vocabulary.names
    all_translated = [translated_event(each.event, vocabulary, stores.settings.pseudonyms) for each in batch.events]
    named = {unit for each in all_translated if each is not None for unit in units_of(each[0])}
    erased = stores.tombstones.erased(named)
    for mapped, translated in zip(batch.events, all_translated, strict=True):
        left = without_erased(translated[0], erased) if translated is not None else None
        if translated is None or left is None:
            report.ignored += 1
            stores.feeds.event(mapped.event, None, "ignored")
            continue
        event, known = left, translated[1]
        is_mapped = known or (event.name in names and not is_unconverted(event.properties))
        report.unmapped += not is_mapped
        wanted.append((mapped, event, is_mapped))
    conflicts: list[Rejected] = []
    if wanted:
        # What is in the ledger and not yet in hot state would be lost by a rebuild that ends now.
        with not_during_rebuild(stores.settings):
            begun = awaited((event for _, event, _ in wanted), stores.release) if stores.release is not None else ()
            kept = stores.ledger.append([(event, mapped.digest) for mapped, event, _ in wanted], begun=begun)
            reached("ledger")
            # Also what was kept before: whoever kept it may have died before hot state was told.
            told = (happened(each.standing) for each in kept if each.status != "conflict")
            stores.hot_state.note_in_bulk(each for each in told if each is not None)
            _add_to_states(stores, [each.standing for each in kept if each.status != "conflict"])
            reached("hot state")
        for (mapped, event, is_mapped), each in zip(wanted, kept, strict=True):
            status = "rejected" if each.status == "conflict" else each.status
            stores.feeds.event(mapped.event, event, status, mapped=is_mapped)
            report.accepted += each.status == "accepted"
            report.duplicates += each.status == "duplicate"
            if each.status == "conflict":
                conflicts.append(_conflict(mapped, event))
    return (wanted[-1][1].event_id if wanted else None), conflicts


def _add_to_states(stores: _Stores, events: list[EventRecord]) -> None:
    """Let features over events count them, by the declarations that are released now."""
    released = released_features(stores.settings)
    if released is not None:
        now = max(event.received_at for event in events)
        open_states(stores.settings).change(StateChange(released.features, events, now=now))


def _conflict(mapped: MappedEvent, event: EventRecord) -> Rejected:
    said = (
        f"the event '{event.event_id}' was kept before with other content, which stands;"
        " rows of one event must be in the same file, near each other"
    )
    return Rejected(Mistake(mapped.rows[0].number, None, said), mapped.rows)


def _of_others(stores: _Stores, found: list[Rejected], report: IngestedEvents) -> list[Rejected]:
    """Those without a row of somebody erased: what names them is not kept, not even as a mistake."""
    said = {str(value) for rejected in found for row in rejected.rows for value in row.values.values()}
    of = stores.settings.pseudonyms.of
    names = {value: (of(value), visitor(of(value)), value) for value in said}
    erased = stores.tombstones.erased({name for each in names.values() for name in each})
    gone = {value for value, each in names.items() if not erased.isdisjoint(each)}
    others = [
        rejected
        for rejected in found
        if not any(str(value) in gone for row in rejected.rows for value in row.values.values())
    ]
    report.ignored += len(found) - len(others)
    return others


def _reject(rejects: RejectFile, found: Iterable[Rejected], report: IngestedEvents) -> None:
    for rejected in found:
        rejects.add(rejected)
        report.rejected += len(rejected.rows)
        report.mistakes_found += 1
        if len(report.mistakes) < SHOWN:
            others = len(rejected.rows) - 1
            more = f"; with it {others:,} more rows of the same event are left out" if others else ""
            report.mistakes.append(rejected.mistake.shown(report.file) + more)
