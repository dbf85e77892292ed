"""The online posterior in both stores of hot state: kept in one step, and over what it was worked out from."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from storage.hot_state.posteriors import PosteriorStore, open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.settings import Settings
from tests.storage.hot_stores import settings_for
from tests.storage.kept import NOW

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[PosteriorStore]:
    with settings_for(request.param, settings) as found:
        open_hot_state(found, now=NOW).close()
        yield open_posterior(found)


def test_nothing_is_kept_at_first(store: PosteriorStore) -> None:
    assert (store.revision(), store.kept()) == (None, None)


def test_what_is_kept_is_found_under_its_revision(store: PosteriorStore) -> None:
    revision = store.keep(b"counts", b"beliefs", over=None)
    assert revision is not None
    assert store.revision() == revision
    assert store.kept() == (revision, b"counts", b"beliefs")


def test_of_two_who_went_on_from_the_same_state_one_is_refused(store: PosteriorStore) -> None:
    first = store.keep(b"0", b"", over=None)
    assert store.keep(b"1", b"", over=first) is not None
    assert store.keep(b"1 too", b"", over=first) is None
    kept = store.kept()
    assert kept is not None
    assert kept.counted == b"1"


def test_who_begins_anew_is_refused_where_something_stands(store: PosteriorStore) -> None:
    store.keep(b"0", b"", over=None)
    assert store.keep(b"anew", b"", over=None) is None


def test_what_is_forgotten_is_not_gone_on_from(store: PosteriorStore) -> None:
    first = store.keep(b"0", b"", over=None)
    store.forget()
    assert store.revision() is None
    assert store.keep(b"1", b"", over=first) is None
    assert store.keep(b"0", b"", over=None) not in (None, first)


def test_one_at_a_time_has_the_lease_and_keeps_it_by_asking_again(store: PosteriorStore) -> None:
    assert store.lease("a", duration=MINUTE)
    assert not store.lease("b", duration=MINUTE)
    assert store.lease("a", duration=MINUTE)


def test_a_lease_that_has_run_out_is_anybodys(store: PosteriorStore) -> None:
    assert store.lease("a", duration=timedelta(milliseconds=1))
    while not store.lease("b", duration=MINUTE):
        pass
    assert not store.lease("a", duration=MINUTE)
