"""Erasing in hot state, on both stores: nothing of the person is left, and nothing of others is lost."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import LargeBinary, Text

from decisioning.content import ContactPolicy
from decisioning.events import Happened
from decisioning.identity import Link
from decisioning.profile import Subject
from storage.hot_state.erasing import erase_hot, hot_parts
from storage.hot_state.rebuild import rebuild
from storage.hot_state.redis_values import Keys
from storage.hot_state.schema import connect
from storage.hot_state.sqlite_erasing import BY_ANOTHER_NAME, WITHOUT_CUSTOMERS, customer_tables
from storage.id_digests import id_digests
from storage.ledger.database import open_ledger
from storage.ledger.tables import metadata
from storage.privacy.ledger_rows import HOLDS_IDS, HOLDS_NONE
from storage.privacy.requests import ask_for_erasure, readmit
from storage.settings import Settings
from tests.storage.hot_stores import Store, charged, mails, reservation, settings_for
from tests.storage.kept import NOW, consent, wishes

ANN, BOB = Subject("ann", "acme"), Subject("bob", "acme")


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    with settings_for(request.param, settings) as own:
        opened = Store(own)
        yield opened
        opened.close()


def erase(store: Store, *units: str, linked: tuple[str, ...] = (), decisions: tuple[str, ...] = ()) -> int:
    return erase_hot(store.settings, units, linked=linked, decisions=decisions)


def held(store: Store, *units: str) -> list[str]:
    return [name for name, items in hot_parts(store.settings, units) for _ in items]


def test_an_erased_id_is_nobody_at_the_next_read_and_one_like_others_when_readmitted(store: Store) -> None:
    store.consent(consent("ann"))
    store.run(store.hot.bury(["ann"]))
    assert store.read(Subject("ann")).erased
    assert store.read(Subject("ann")).consents == ()
    assert not store.read(Subject("bob")).erased
    store.run(store.hot.bury(["ann"], erased=False))
    assert not store.read(Subject("ann")).erased
    assert store.read(Subject("ann")).consents != ()


def test_everything_of_the_ids_goes(store: Store) -> None:
    store.consent(consent("ann"))
    store.prefer(wishes("ann"))
    store.note(Happened("ann", "purchase", NOW, ("shoes",)))
    store.tell(type="unsubscribe", subject=Subject("ann"), decision_id="d-0")
    store.take(reservation("d-1", subject=Subject("ann")))
    store.link(Link("ann", "anonymous:v", NOW))
    store.consent(consent("bob"))
    assert held(store, "ann", "anonymous:v")
    assert erase(store, "ann", "anonymous:v", decisions=("d-1",)) > 0
    assert held(store, "ann", "anonymous:v") == []
    assert store.read(Subject("ann")).version == 0
    assert erase(store, "ann", "anonymous:v", decisions=("d-1",)) == 0, "again finds nothing"
    assert held(store, "bob"), "others stay"


def test_the_accounts_contacts_of_others_stay(store: Store) -> None:
    store.take(reservation("d-1", subject=ANN))
    store.take(reservation("d-2", subject=BOB))
    carol = Subject("carol", "acme")
    before = store.read(carol)
    assert {contact.decision_id for contact in before.account_contacts} == {"d-1", "d-2"}
    erase(store, "ann", decisions=("d-1",))
    after = store.read(carol)
    assert [contact.decision_id for contact in after.account_contacts] == ["d-2"]
    assert after.version != before.version, "a decision that counted on it is judged again"


def test_what_was_spent_stays_spent_and_what_was_reserved_is_given_back(store: Store) -> None:
    budget = mails(2.0)
    store.take(charged(budget, "d-1", subject=Subject("ann")))
    store.tell(type="sent", subject=Subject("ann"), decision_id="d-1")
    store.take(charged(budget, "d-2", subject=Subject("ann")))
    assert store.take(charged(budget, "d-3", subject=Subject("bob"))) == (), "all is taken"
    erase(store, "ann", decisions=("d-1", "d-2"))
    assert held(store, "ann") == []
    assert len(store.take(charged(budget, "d-4", subject=Subject("bob")))) == 1, "the reserved one came back"
    assert store.take(charged(budget, "d-5", subject=Subject("bob"))) == (), "the sent one did not"


def test_what_links_say_of_others_no_longer_names_the_erased(store: Store) -> None:
    store.link(Link("ann", "anonymous:tablet", NOW), Link("bob", "anonymous:tablet", NOW + timedelta(hours=1)))
    assert "tablet" in repr([list(items) for _, items in hot_parts(store.settings, ["bob"])])
    erase(store, "ann", "anonymous:tablet", linked=("bob",))
    assert "tablet" not in repr([list(items) for _, items in hot_parts(store.settings, ["bob"])])


def test_who_became_the_owner_of_an_erased_visitor_meanwhile_is_no_person_with_it(store: Store) -> None:
    store.link(Link("bob", "anonymous:tablet", NOW))
    assert store.read(Subject("bob")).person is not None
    erase(store, "ann", "anonymous:tablet", linked=("bob",))
    assert store.read(Subject("bob")).person is None
    assert "tablet" not in repr([list(items) for _, items in hot_parts(store.settings, ["bob"])])


def test_a_decision_that_read_before_the_erasure_counts_anew(store: Store) -> None:
    twice = ContactPolicy("once", limit=1, within=timedelta(days=7))
    store.take(reservation("d-1", subject=Subject("ann"), policies=(twice,)))
    seen = store.read(Subject("ann"))
    erase(store, "ann", decisions=("d-1",))
    assert len(store.take(reservation("d-2", subject=Subject("ann"), policies=(twice,), seen=seen))) == 1


def test_every_table_of_hot_state_is_known_to_erasure(tmp_path: Path) -> None:
    connection = connect(tmp_path / "hot.db")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables == {*customer_tables(connection), *BY_ANOTHER_NAME, *WITHOUT_CUSTOMERS}
    connection.close()


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_of_the_ledger_is_known_to_erasure(table: object) -> None:
    name, columns = table.name, table.columns  # type: ignore[attr-defined]
    texts = {column.name for column in columns if isinstance(column.type, Text | LargeBinary)}
    holds, not_ = HOLDS_IDS.get(name, set()), HOLDS_NONE.get(name, set())
    assert texts == holds | not_, f"say in storage/privacy/ledger_rows.py whether ids may stand in {name}"
    assert not holds & not_


def test_hot_state_made_anew_knows_who_is_erased_and_who_no_longer_is(store: Store) -> None:
    settings, digests = store.settings, id_digests(store.settings)
    engine = open_ledger(settings)
    for unit in ("ann", "bob"):
        ask_for_erasure(engine, settings.domain, [unit], digests, actor="admin", now=NOW)
    rebuild(settings, now=NOW)
    assert [store.read(Subject(unit)).erased for unit in ("ann", "bob", "carol")] == [True, True, False]
    readmit(engine, settings.domain, "ann", digests, actor="admin", now=NOW)
    store.run(store.hot.bury(["ann"], erased=False))
    rebuild(settings, now=NOW)
    assert [store.read(Subject(unit)).erased for unit in ("ann", "bob")] == [False, True]
    engine.dispose()


def test_what_was_spent_is_known_where_nobody_had_counted_it_yet(settings: Settings) -> None:
    store, budget = Store(settings), mails(1.0)
    store.take(charged(budget, "d-1", subject=Subject("ann")))
    store.tell(type="sent", subject=Subject("ann"), decision_id="d-1")
    with closing(connect(settings.hot_path)) as connection:
        connection.execute("DELETE FROM spending")  # as a rebuild leaves it
    erase(store, "ann", decisions=("d-1",))
    assert held(store, "ann") == []
    assert store.take(charged(budget, "d-2", subject=Subject("bob"))) == ()
    store.close()


def test_the_states_of_features_over_events_go_too(store: Store) -> None:
    settings = store.settings
    if settings.hot_state == "sqlite":
        with closing(connect(settings.hot_path)) as connection:
            connection.execute("INSERT INTO event_states VALUES (?, 'd', 'ann', NULL, x'01ff')", (settings.domain,))
    else:
        with redis.Redis.from_url(settings.redis_url) as client:
            client.set(Keys(settings.redis_prefix, settings.domain).state("ann", "d"), b"\x01\xff")
    assert len(held(store, "ann")) == 1
    assert erase(store, "ann") == 1
    assert held(store, "ann") == []
