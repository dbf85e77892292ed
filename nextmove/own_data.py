"""One's own customers into the stores, and a first catalogue: what `--dataset files` adds to the other steps."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

from decisioning.profile import ConsentChange
from storage.consents import record_consents
from storage.hot_state.rebuild import open_hot_state
from storage.known_customers import KnownCustomers
from storage.settings import Settings
from training.domains.files import Files
from training.ingest_customers import IngestedCustomers, Stage, ingest_customers

Progress = Callable[[str, float, IngestedCustomers], None]


def take_customers(
    settings: Settings,
    domain: Files,
    *,
    now: datetime,
    origin: str | None = None,
    progress: Progress = lambda _what, _share, _report: None,
    reached: Callable[[Stage], None] = lambda _stage: None,
) -> IngestedCustomers:
    """Customers from `origin`, or from where the mapping says, into Feast, the ledger and hot state.

    Raises:
        DataError: They cannot be read.
        SetupError: The state directory or a driver cannot be used, or another run is at it.
        StoreError: A store cannot be written now; run it again.
    """
    with KnownCustomers(settings, domain.name) as known, closing(open_hot_state(settings, now=now)) as hot_state:

        def write_consents(changes: list[ConsentChange]) -> int:
            return record_consents(settings, hot_state, changes)

        return ingest_customers(
            settings,
            domain.name,
            domain.customer_rows(origin=origin, since=known.read_until),
            domain.mapping.of_customers,
            known=known,
            now=now,
            write_consents=write_consents,
            progress=progress,
            reached=reached,
        )


def make_starter(folder: Path, domain: Files) -> Path | None:
    """A first catalogue in this folder; the file, or None where there is a catalogue already."""
    from nextmove.starter_catalog import write_starter

    return write_starter(folder, domain.mapping, domain.log())
