"""Sizes are kept for good, and the last ones are judged by those before."""

from datetime import timedelta
from pathlib import Path

import pytest

from decisioning.catalog import Release
from decisioning.content import Audience
from decisioning.content_types import BLUEPRINT
from decisioning.running_dry import Size
from storage.audience_warnings import audience_warnings
from storage.ledger.audience_sizes import keep_sizes, kept_sizes, last_sizes
from storage.settings import Settings
from tests.builders import NOW, content, release


def size(count: int, *, ago: float = 0, name: str = "loyal", market: str = BLUEPRINT) -> Size:
    return Size(market, "audience", name, NOW - timedelta(days=ago), count, 20_000)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_sizes_come_back_as_they_were_kept_and_once(settings: Settings) -> None:
    sizes = [size(3, ago=2), size(5), size(7, market="ch")]
    keep_sizes(settings, sizes)
    keep_sizes(settings, [size(4), *sizes])
    assert kept_sizes(settings, since=NOW - timedelta(days=9), market=BLUEPRINT) == [size(3, ago=2), size(5)]
    assert kept_sizes(settings, since=NOW - timedelta(days=1)) == [size(7, market="ch"), size(5)]
    assert kept_sizes(Settings(home=settings.home, domain="other"), since=NOW - timedelta(days=9)) == []


def test_the_last_sizes_are_those_of_each_market_s_last_count(settings: Settings) -> None:
    keep_sizes(
        settings, [size(1, ago=1, name="gone"), size(2), size(3, ago=5, market="ch"), size(4, ago=2, market="ch")]
    )
    assert sorted(last_sizes(settings)) == [size(4, ago=2, market="ch"), size(2)]


def test_the_last_count_is_judged_by_the_days_before_it_in_every_market(settings: Settings) -> None:
    shops = Release({BLUEPRINT: content(), "ch": content(market="ch")}, version="sha256:test")
    days = [size(1_000, ago=n, market=market) for n in range(1, 12) for market in (BLUEPRINT, "ch")]
    keep_sizes(settings, [*days, size(950), size(3, market="ch"), size(1, market="gone")])
    assert audience_warnings(settings, shops, now=NOW) == [
        "audience loyal in market ch runs dry: 3 customers, about 1,000 are usual"
    ]


def test_a_minimum_is_judged_without_a_past(settings: Settings) -> None:
    shop = release(audiences=(Audience(id="loyal", rule="true", minimum_size={"email": 5}),))
    keep_sizes(settings, [size(4)._replace(kind="reach", id="loyal/email")])
    assert audience_warnings(settings, shop, now=NOW) == [
        "audience loyal on email is too small: 4 customers, at least 5 are asked for"
    ]


def test_who_counts_and_then_stops_is_told_and_who_never_counted_is_not(settings: Settings) -> None:
    assert audience_warnings(settings, release(), now=NOW) == []
    keep_sizes(settings, [size(4, ago=9)])
    assert audience_warnings(settings, release(), now=NOW) == [
        "audiences were counted last 9 days ago; run: nextmove audience"
    ]
    assert audience_warnings(settings, release(), now=NOW - timedelta(days=2)) == []
