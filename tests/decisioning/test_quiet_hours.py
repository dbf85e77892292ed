from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from decisioning import decision as funnel
from decisioning.content import QuietHours
from decisioning.profile import Facts
from decisioning.quiet_hours import quiet_at, zone_of
from tests.builders import CONSENTED, action, case, catalog, placement

BERLIN = ZoneInfo("Europe/Berlin")
NEWSLETTER = placement("newsletter", channel="email", shown_by="sent")


def night(**overrides: Any) -> QuietHours:
    return QuietHours(**({"id": "night", "begin": "21:00", "end": "08:00"} | overrides))


def is_quiet(at: datetime, *, quiet: QuietHours | None = None, where: Any = NEWSLETTER, zone: Any = UTC) -> bool:
    return quiet_at([quiet or night()], where, at, zone) is not None


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [
        ("20:59:59", False),
        ("21:00:00", True),
        ("23:59:59", True),
        ("00:00:00", True),
        ("07:59:59", True),
        ("08:00:00", False),
    ],
)
def test_the_first_instant_is_quiet_and_the_last_is_not_also_past_midnight(clock: str, quiet: bool) -> None:
    assert is_quiet(datetime.fromisoformat(f"2026-03-02T{clock}+00:00")) is quiet


@pytest.mark.parametrize(("clock", "quiet"), [("12:59", False), ("13:00", True), ("14:59", True), ("15:00", False)])
def test_hours_within_one_day_are_quiet_from_begin_to_end(clock: str, quiet: bool) -> None:
    nap = night(begin="13:00", end="15:00")
    assert is_quiet(datetime.fromisoformat(f"2026-03-02T{clock}:00+00:00"), quiet=nap) is quiet


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        ("2026-03-06T22:00", True),  # Friday night begins on Friday
        ("2026-03-07T07:00", True),  # and lasts into Saturday
        ("2026-03-07T22:00", False),  # Saturday night is not named
        ("2026-03-06T07:00", False),  # nor is Thursday's, though it ends on Friday
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(at: str, quiet: bool) -> None:
    assert is_quiet(datetime.fromisoformat(f"{at}:00+00:00"), quiet=night(days=(5,))) is quiet


def test_sunday_night_lasts_into_monday() -> None:
    assert is_quiet(datetime(2026, 3, 9, 3, tzinfo=UTC), quiet=night(days=(7,)))
    assert not is_quiet(datetime(2026, 3, 9, 3, tzinfo=UTC), quiet=night(days=(1,)))


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        ("2026-03-29T00:59", False),  # 01:59; at 02:00 the clock goes to 03:00
        ("2026-03-29T01:00", False),  # 03:00: the quiet hour did not exist that night
        ("2026-10-25T00:00", True),  # 02:00 in summer time
        ("2026-10-25T00:59", True),
        ("2026-10-25T01:00", True),  # 02:00 again, in winter time
        ("2026-10-25T01:59", True),
        ("2026-10-25T02:00", False),  # 03:00
    ],
)
def test_when_the_clocks_change_what_the_customers_clock_shows_counts(at: str, quiet: bool) -> None:
    hour = night(begin="02:00", end="03:00")
    assert is_quiet(datetime.fromisoformat(f"{at}:00+00:00"), quiet=hour, zone=BERLIN) is quiet


@pytest.mark.parametrize(("day", "utc_hour"), [(28, 20), (29, 19)])
def test_after_the_change_the_night_begins_an_hour_earlier_in_utc(day: int, utc_hour: int) -> None:
    begins = datetime(2026, 3, day, utc_hour, tzinfo=UTC)
    assert is_quiet(begins, zone=BERLIN)
    assert not is_quiet(begins - timedelta(seconds=1), zone=BERLIN)


def test_the_same_instant_is_quiet_for_one_customer_and_not_for_another() -> None:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert is_quiet(at, zone=ZoneInfo("Pacific/Auckland"))
    assert not is_quiet(at, zone=BERLIN)


def test_without_channels_only_what_is_pushed_is_quiet() -> None:
    at = datetime(2026, 3, 2, 22, tzinfo=UTC)
    assert not is_quiet(at, where=placement())
    assert is_quiet(at, where=placement(), quiet=night(channels=("web",)))
    assert not is_quiet(at, quiet=night(channels=("web",)))


def test_the_first_of_several_that_forbid_is_named() -> None:
    named = quiet_at([night(id="lunch", begin="12:00", end="13:00"), night(), night(id="late")], NEWSLETTER,
                     datetime(2026, 3, 2, 23, tzinfo=UTC), UTC)  # fmt: skip
    assert named is not None
    assert named.id == "night"


@pytest.mark.parametrize("name", ["Atlantis", "", "../../etc/passwd", "Europe/", "\x00", 7.0, None, ("Europe/Berlin",)])
def test_an_unknown_or_malformed_zone_is_the_markets(name: object) -> None:
    assert zone_of(name, BERLIN) is BERLIN


@pytest.mark.parametrize(
    ("planned", "zone", "kept"),
    [
        ("2026-03-02T22:00:00Z", None, False),
        ("2026-03-03T08:00:00Z", None, True),
        ("2026-03-03T08:00:00Z", "America/New_York", False),
        ("2026-03-02T22:00:00Z", "America/New_York", True),
    ],
)
def test_a_push_is_judged_at_its_planned_time_on_the_customers_clock(
    planned: str, zone: str | None, kept: bool
) -> None:
    shop = catalog(action("card"), quiet_hours=(night(),))
    facts = Facts(features={"time_zone": zone}, hot=CONSENTED)
    narrowed = funnel.narrow(case(shop, placement="newsletter", planned_at=planned), facts)
    assert [eligible.proposal.action.id for eligible in narrowed.eligible] == (["card"] if kept else [])
    assert kept or narrowed.dropped[0].reason == "QUIET_HOURS"


@pytest.mark.parametrize(("at", "quiet"), [("2026-03-01T23:59:59", True), ("2026-03-02T00:00:00", False)])
def test_a_whole_day_is_quiet_to_its_last_second(at: str, quiet: bool) -> None:
    sunday = night(begin="00:00", end="24:00", days=(7,))
    assert is_quiet(datetime.fromisoformat(f"{at}+00:00"), quiet=sunday) is quiet
