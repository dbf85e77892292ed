"""Feeds: which decisions silence leaves unjudged, and which it does not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from decisioning.event_content import Source
from decisioning.feeds import HOUR, FeedCount, Gap, Untold, feeds_needed, left_out_lines, untold, watched
from tests.builders import placement, record

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
NOW = BEGIN + 8 * timedelta(days=7)
STOPPED = BEGIN + 6 * timedelta(days=7, hours=2)


def told(
    source: str = "till",
    name: str = "outcome:purchase",
    *,
    rate: int = 10,
    silent: Callable[[datetime], bool] = lambda _: False,
    until: datetime = NOW,
) -> list[FeedCount]:
    """So many outcomes every hour, but for when it is silent."""
    hours = (BEGIN + number * HOUR for number in range((until - BEGIN) // HOUR))
    return [FeedCount(source, name, hour, "occurred", rate, hour) for hour in hours if not silent(hour)]


def from_then(hour: datetime) -> bool:
    return hour >= STOPPED


def for_a_day(hour: datetime) -> bool:
    return STOPPED <= hour < STOPPED + timedelta(days=1)


def gap_of(counts: list[FeedCount], *sources: Source, at: datetime = STOPPED, **fields: object) -> Gap | None:
    asked = placement(**({"reward": {"purchase": "value"}, "shown_by": "decision"} | fields))
    found = untold(counts, sources, now=NOW, time_zone="UTC")
    return found.gap(record(decided_at=at), asked)


def test_a_decision_whose_purchases_were_not_told_is_not_judged() -> None:
    gap = gap_of(told(silent=for_a_day))
    assert gap is not None
    assert (gap.source, gap.begin, gap.until) == ("till", STOPPED, STOPPED + timedelta(days=1))


@pytest.mark.parametrize(
    ("at", "judged"),
    [
        (STOPPED - timedelta(days=7), True),  # its window closes as the silence begins
        (STOPPED - timedelta(days=7) + timedelta(minutes=1), False),
        (STOPPED + timedelta(hours=23, minutes=59), False),
        (STOPPED + timedelta(days=1), True),
    ],
)
def test_what_counts_is_the_attribution_window(at: datetime, judged: bool) -> None:
    assert (gap_of(told(silent=for_a_day), at=at) is None) == judged


def test_a_gap_is_open_while_the_feed_is_silent() -> None:
    gap = gap_of(told(silent=from_then))
    assert gap is not None
    assert gap.until is None


def test_outcomes_that_are_delivered_late_close_the_gap() -> None:
    late = [each for each in told() if for_a_day(each.hour)]
    assert gap_of(told(silent=for_a_day)) is not None
    assert gap_of([*told(silent=for_a_day), *late]) is None


def test_what_comes_again_without_what_was_missed_leaves_the_gap() -> None:
    assert gap_of(told(silent=for_a_day), at=STOPPED + timedelta(days=2)) is None
    assert gap_of(told(silent=for_a_day), at=STOPPED) is not None


def test_an_outcome_that_the_placement_does_not_need_is_not_missed() -> None:
    assert gap_of(told(silent=from_then), reward={"click": 1.0}) is None


def test_without_impressions_nobody_knows_what_was_shown() -> None:
    quiet = told("web", "outcome:impression", silent=from_then)
    assert gap_of(quiet, shown_by="impression") is not None
    assert gap_of(quiet, shown_by="decision") is None


def test_a_feed_that_brings_little_of_an_outcome_is_not_missed() -> None:
    assert gap_of([*told("till", rate=95), *told("app", rate=5, silent=from_then)]) is None
    assert gap_of([*told("till", rate=60), *told("app", rate=40, silent=from_then)]) is not None


def test_the_catalogue_s_word_on_who_brings_an_outcome_counts() -> None:
    moved = [*told("till", silent=from_then), *told("checkout")]
    assert gap_of(moved) is not None
    assert gap_of(moved, Source(id="checkout", outcomes=("purchase",))) is None


def test_one_source_s_silence_is_not_another_s() -> None:
    clicks = told("web", "outcome:click", silent=from_then)
    assert gap_of([*told("till"), *clicks]) is None


def test_events_and_arrivals_do_not_count_as_outcomes() -> None:
    arrivals = [FeedCount("till", each.name, each.hour, "received", each.count, each.last_at) for each in told()]
    assert gap_of([*told(silent=from_then), *arrivals]) is not None
    assert gap_of([*told("till"), *told("shop", "purchase", silent=from_then)]) is None


def test_the_earliest_gap_is_named() -> None:
    gaps = [Gap("b", "outcome:purchase", STOPPED + HOUR, None), Gap("a", "outcome:click", STOPPED, None)]
    asked = placement(reward={"purchase": 1.0, "click": 1.0})
    assert Untold(gaps).gap(record(decided_at=STOPPED), asked) == gaps[1]


def test_the_week_is_that_of_the_people() -> None:
    """A till in Berlin opens and closes by its own clock, also when that is changed."""
    summer = datetime(2026, 3, 29, 1, tzinfo=UTC)

    def open_at(hour: datetime) -> bool:
        shift = 2 if hour >= summer else 1
        local = (hour + shift * HOUR).hour
        return 9 <= local < 12

    begin = datetime(2026, 2, 2, tzinfo=UTC)
    hours = [begin + number * HOUR for number in range(10 * 168)]
    counts = [FeedCount("till", "sale", hour, "received", 60, hour) for hour in hours if open_at(hour)]
    now = hours[-1] + HOUR
    [berlin] = watched(counts, now=now, time_zone="Europe/Berlin")
    assert berlin.gaps == []
    expected = {berlin.first + place * HOUR: value for place, value in enumerate(berlin.rhythm.expected)}
    assert expected[summer + timedelta(days=1, hours=6)] == 60.0


def test_a_source_is_as_alive_as_the_sum_of_its_feeds() -> None:
    counts = [*told("web", "page"), *told("web", "cart_added", silent=from_then)]
    assert [feed.gaps for feed in watched(counts, now=NOW, time_zone="UTC", whole_sources=True)] == [[]]
    by_name = {feed.name: feed.gaps for feed in watched(counts, now=NOW, time_zone="UTC")}
    assert (len(by_name["page"]), len(by_name["cart_added"])) == (0, 1)


def test_who_brings_an_outcome_is_learnt_from_what_was_told() -> None:
    assert feeds_needed(told("till", rate=9), [])["purchase"] == {"till"}


def test_reports_say_what_was_not_told_and_when() -> None:
    [line] = left_out_lines({Gap("till", "outcome:purchase", STOPPED, STOPPED + timedelta(days=1)): 1204})
    assert line == (
        "1,204 decisions are left out: outcomes 'purchase' of 'till' were not told between 2026-02-16 12:00 and"
        " 2026-02-17 12:00 UTC"
    )
