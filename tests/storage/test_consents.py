"""Consent that is ingested does not undo what the customer said later, or was said of them."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from decisioning.profile import Consent
from storage.consents import record_consents
from storage.hot_state.rebuild import rebuild
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.hot_stores import Store, settings_for
from tests.storage.hot_stores import told as told_of
from tests.storage.kept import NOW, consent, decision, outcome

DAY = timedelta(days=1)
EMAIL = Consent("marketing", "email")


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.mark.parametrize("ingested", ["before", "after"])
@pytest.mark.parametrize("said", ["withdrawn", "unsubscribe", "complaint"])
def test_an_older_grant_changes_nothing_whenever_it_is_ingested(
    said: str, ingested: str, chosen: Settings, ledger: Ledger
) -> None:
    store = Store(chosen)

    def ingest() -> None:
        record_consents(chosen, store.hot, [consent(at=NOW - DAY)])

    if ingested == "before":
        ingest()
    if said == "withdrawn":
        no = consent(granted=False)
        asyncio.run(ledger.append_consents([no]))
        store.consent(no)
    else:
        told = outcome(type=said, occurred_at=NOW)
        asyncio.run(ledger.append_decision(decision(channel="email"), digest="a"))
        asyncio.run(ledger.append_outcomes([(told, "a")]))
        store.run(store.hot.apply(told_of(type=said, action_id="card", occurred_at=NOW)))
    if ingested == "after":
        ingest()

    suppressed = () if said == "withdrawn" else ("email",)
    for _ in range(2):
        known = store.read()
        assert (known.consents, known.withdrawn, known.suppressed) == ((), (EMAIL,), suppressed)
        rebuild(chosen, now=NOW + timedelta(minutes=2))
        store.close()
        store = Store(chosen)
    record_consents(chosen, store.hot, [consent(at=NOW + DAY)])
    known = store.read()
    assert (known.consents, known.withdrawn, known.suppressed) == ((EMAIL,), (), ())
    store.close()
