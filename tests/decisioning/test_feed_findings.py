"""What the doctor says of sources."""

from datetime import datetime, timedelta

from decisioning.event_content import Hook, Source
from decisioning.feed_findings import Finding, feed_findings
from decisioning.feeds import HOUR, FeedCount
from tests.builders import NOW, content

WEEKS = 5 * 7 * 24


def hourly(
    what: str = "received",
    *,
    source: str = "till",
    name: str = "sale",
    count: int = 10,
    since: datetime = NOW - WEEKS * HOUR,
    until: datetime = NOW,
) -> list[FeedCount]:
    hours = (since + number * HOUR for number in range((until - since) // HOUR))
    return [FeedCount(source, name, hour, what, count, hour + timedelta(minutes=59)) for hour in hours]


def found(*counts: list[FeedCount], sources: tuple[Source, ...] = (Source(id="till", owner="omar"),)) -> list[Finding]:
    said = [each for some in counts for each in some]
    return feed_findings(said, content(sources=sources), now=NOW)


def warnings(*counts: list[FeedCount], **fields: tuple[Source, ...]) -> list[str]:
    return [f"{each.found} -> {each.to_do}" for each in found(*counts, **fields) if each.level != "ok"]


def test_a_healthy_source_has_one_line() -> None:
    [line] = found(hourly(), hourly("occurred"), hourly("type:amount:number"))
    assert (line.level, line.subject) == ("ok", "till")
    assert line.found == "last heard 2026-03-02 11:59 UTC, 1 min ago; 240 in the last 24 whole hours, usually 240"


def test_a_source_that_stopped_is_named_with_its_owner() -> None:
    [line] = warnings(hourly(until=NOW - 20 * HOUR))
    assert line.startswith("has stopped, or nearly so, since 2026-03-01 16:00 UTC; last heard 2026-03-01 15:59 UTC")
    assert line.endswith("-> ask omar")


def test_a_feed_that_stopped_is_named_though_its_source_lives() -> None:
    [line] = warnings(hourly(count=100), hourly(name="refund", until=NOW - 20 * HOUR))
    assert line == "'refund' of 'till' are not told since 2026-03-01 16:00 UTC -> ask omar"


def test_outcomes_that_are_not_told_say_that_learning_waits() -> None:
    [line] = warnings(hourly(count=100), hourly(name="outcome:purchase", until=NOW - 20 * HOUR))
    assert "outcomes 'purchase' of 'till' are not told since" in line
    assert "not learnt from" in line


def test_a_feed_that_is_well_again_is_fine() -> None:
    assert warnings(hourly(until=NOW - 80 * HOUR), hourly(since=NOW - 40 * HOUR)) == []


def test_names_without_a_meaning_come_with_the_yaml_to_add() -> None:
    [line] = warnings(hourly(), hourly("unmapped", name="Song Played", count=2), hourly("unmapped", name='"', count=1))
    assert "'Song Played' (1,680), '\"' (840)" in line
    assert r'sources: [{id: till, events: {"Song Played": ..., "\"": ...}}]' in line


def test_a_property_that_goes_missing_is_named() -> None:
    lately = NOW - timedelta(days=6)
    fine = hourly("type:amount:number", until=lately)
    null = hourly("type:amount:null", since=lately)
    [line] = warnings(hourly(), fine, null)
    assert line.startswith("'amount' of 'sale' is missing or null in 86% of the last week, was in 0%")
    assert warnings(hourly(), fine) == [line], "whether it is null or not sent"


def test_a_property_that_was_always_rare_is_no_news() -> None:
    assert warnings(hourly(), hourly("type:coupon:text", count=2)) == []


def test_a_property_of_another_kind_than_before_is_named_with_both_and_since_when() -> None:
    since = NOW - timedelta(days=3)
    numbers = hourly("type:amount:number", until=since)
    [line] = warnings(hourly(), numbers, hourly("type:amount:text", since=since))
    assert line.startswith("'amount' of 'sale' is text in 720 events since 2026-02-27 12:00 UTC, number otherwise")
    [line] = warnings(hourly(), numbers, hourly("type:amount:text", since=since, count=1),
                      hourly("type:amount:number", since=since, count=9))  # fmt: skip
    assert "is text in 72 events" in line


def test_a_few_of_another_kind_are_an_exception() -> None:
    odd = [FeedCount("till", "sale", NOW - HOUR, "type:amount:text", 3, NOW)]
    assert warnings(hourly(), hourly("type:amount:number"), odd) == []


def test_a_property_whose_name_has_colons_is_understood() -> None:
    since = NOW - timedelta(days=3)
    [line] = warnings(hourly(), hourly("type:a:b:number", until=since), hourly("type:a:b:text", since=since))
    assert line.startswith("'a:b' of 'sale' is text")


def test_many_duplicates_and_rejections_and_unknown_money_are_named() -> None:
    assert warnings(hourly(), hourly("duplicate", count=1), hourly("rejected", name="other", count=0)) == []
    [twice] = warnings(hourly(), hourly("duplicate", count=5))
    assert twice.startswith("50% of what it told in the last week was told before")
    [foreign] = warnings(hourly(), hourly("unconverted", count=1))
    assert foreign.startswith("the money of 168 events of the last week is in a currency without a rate")
    [bad] = warnings(hourly(), hourly("rejected", name="other", count=10))
    assert bad.startswith("1,680 of 3,360 that it told in the last week were rejected")


def test_who_is_not_in_the_catalogue_is_a_note() -> None:
    [_, line] = found(hourly(), sources=())
    assert (line.level, line.to_do) == ("note", "say who it is: sources: [{id: till, owner: ...}]")
    assert [each.level for each in feed_findings(hourly(), content(), now=NOW, unlisted=("till",))] == ["ok"]


def test_hooks_are_in_the_catalogue_too() -> None:
    hooks = (Hook(id="till", owner="nadia", format="sendgrid"),)
    assert [each.level for each in feed_findings(hourly(), content(hooks=hooks), now=NOW)] == ["ok"]
    [line] = feed_findings([], content(hooks=hooks), now=NOW)
    assert (line.level, line.to_do) == ("warning", "ask nadia, or take it out")


def test_who_is_declared_and_never_told_is_named() -> None:
    [line] = warnings()
    assert line == "is declared and was not heard of for eight weeks -> ask omar, or take it out"
    till = Source(id="till", outcomes=("purchase",))
    assert len(warnings(sources=(till,))) == 1
    [line] = warnings(hourly(), sources=(till,))
    assert line.startswith("declares outcomes 'purchase' and told none in eight weeks")


def test_who_only_sends_what_is_rejected_is_not_called_unheard() -> None:
    lines = warnings(hourly("rejected", name="other"))
    assert [line.partition(" ->")[0] for line in lines] == [
        "1,680 of 1,680 that it told in the last week were rejected"
    ]
