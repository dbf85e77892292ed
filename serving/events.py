"""Taking events: each is put into our words, made durable, and then told to hot state."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Literal, NamedTuple

import msgspec

from decisioning.catalog import Release
from decisioning.erased import units_of, without_erased
from decisioning.events import EventRecord, happened
from decisioning.identity import links_of, units_in, with_met
from decisioning.moments import awaited
from decisioning.pseudonyms import Pseudonyms
from decisioning.state_change import StateChange
from decisioning.vocabulary import Vocabulary
from serving.feeds import FeedTally
from serving.ports import HotState, Ledger

# More are found in the ledger, when it is their time.
MOST_DUE = 10_000


class Reported(NamedTuple):
    """An event as a source says it, and what tells it from another under the same id."""

    event: EventRecord
    digest: str


class Taken(NamedTuple):
    """What became of an event; `mapped` is whether anybody has said what its name and its money mean."""

    status: Literal["accepted", "duplicate", "ignored"]
    mapped: bool = True


class DueMoments:
    """Ids of moments that are due, from who learns of them to who decides them; both on one event loop."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._told = asyncio.Event()

    def update(self, ids: Iterable[str]) -> None:
        """These are due."""
        self._ids |= set(islice(ids, MOST_DUE - len(self._ids)))
        if self._ids:
            self._told.set()

    async def wait(self, *, seconds: float) -> set[str]:
        """What is due since the call before, once there is something or this time has passed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)
        self._told.clear()
        due, self._ids = self._ids, set()
        return due


class Events:
    """What customers did elsewhere, on its way into the ledger and hot state.

    Attributes:
        moments_due: Moments that need not be waited for: hot state knows their events, too.
    """

    def __init__(self, hot_state: HotState, ledger: Ledger, pseudonyms: Pseudonyms, feeds: FeedTally) -> None:
        self._hot_state = hot_state
        self._ledger = ledger
        self._pseudonyms = pseudonyms
        self._feeds = feeds
        self.moments_due = DueMoments()

    async def record(self, reported: Sequence[Reported], release: Release) -> list[Taken]:
        """Keep events, durably, then let hot state know. What was told before changes nothing.

        Raises:
            StoreError: They could not be kept, or do not count yet; send them again.
        """
        translated = [translated_event(each.event, release.vocabulary, self._pseudonyms) for each in reported]
        named = {unit for each in translated if each is not None for unit in units_of(each[0])}
        erased = await self._ledger.erased(named)
        taken: list[Taken] = []
        kept: list[tuple[int, Reported]] = []
        for place, (each, ours) in enumerate(zip(reported, translated, strict=True)):
            left = without_erased(ours[0], erased) if ours is not None else None
            if ours is None or left is None:
                taken.append(Taken("ignored"))
            else:
                taken.append(Taken("accepted", ours[1]))
                kept.append((place, Reported(left, each.digest)))
        begun = awaited((each.event for _, each in kept), release)
        statuses = await self._ledger.append_events([each for _, each in kept], begun=begun)
        known = {place: each.event for place, each in kept}
        for (place, _), status in zip(kept, statuses, strict=True):
            if status != "accepted":
                taken[place] = taken[place]._replace(status="duplicate")
        for place, (each, became) in enumerate(zip(reported, taken, strict=True)):
            self._feeds.event(each.event, known.get(place), became.status, mapped=became.mapped)
        # What was told before stands as it was told first. It is told to hot state again: whoever
        # told it then may have died between ledger and hot state.
        standing = [each.event for (_, each), status in zip(kept, statuses, strict=True) if status == "accepted"]
        again = [each.event.event_id for (_, each), status in zip(kept, statuses, strict=True) if status != "accepted"]
        if again:
            standing += await self._ledger.events_of(again)
        told = [done for event in standing if (done := happened(event)) is not None]
        states = _states_of(standing, release)
        if told or states is not None:
            await self._hot_state.note(told, states)
        links = [link for event in standing for link in links_of(event)]
        if links:
            await self._hot_state.link(with_met(links, await self._ledger.met(units_in(links))))
        self.moments_due.update(moment.moment_id for moment in begun if moment.is_due_at_once)
        return taken


def _states_of(events: Sequence[EventRecord], release: Release) -> StateChange | None:
    """What the events add to the states of features over events; None where they add nothing."""
    if release.event_features is None or not events:
        return None
    # By when they arrived, which is now for all that are new.
    change = StateChange(release.event_features, events, now=max(event.received_at for event in events))
    return change if change.units else None


def translated_event(
    event: EventRecord, vocabulary: Vocabulary, pseudonyms: Pseudonyms
) -> tuple[EventRecord, bool] | None:
    """The event in our words, and whether they are all known; None where its source does not want it kept."""
    source = vocabulary.source(event.source)
    if pseudonyms.are_used or (source is not None and source.id_prefix):

        def ours(said: str | None) -> str | None:
            return pseudonyms.of_any(vocabulary.person_id(event.source, said))

        event = msgspec.structs.replace(
            event,
            customer_id=ours(event.customer_id),
            anonymous_id=ours(event.anonymous_id),
            previous_id=ours(event.previous_id),
        )
    market = event.market or (source.market if source else None)
    if event.type != "track":
        return (event if market == event.market else msgspec.structs.replace(event, market=market)), True
    translated = vocabulary.translate(event.source, event.name, event.properties, market=market)
    if translated is None:
        return None
    name, properties, mapped = translated
    return msgspec.structs.replace(event, name=name, properties=properties, market=market), mapped
