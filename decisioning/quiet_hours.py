"""Quiet hours: when nothing may go out, on the customer's own clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from decisioning.content import Placement, QuietHours

TIME_ZONE_FEATURE = "time_zone"


def quiet_at(quiet_hours: Sequence[QuietHours], placement: Placement, at: datetime, zone: tzinfo) -> QuietHours | None:
    """The first that forbids a contact in this placement at this time, or None.

    `begin` is included, `end` is not.

    >>> from datetime import UTC
    >>> night = QuietHours(id="night", begin="21:00", end="08:00")
    >>> email = Placement(id="p", channel="email", shown_by="sent", reward={"click": 1.0}, priority_scale=1.0)
    >>> [quiet_at([night], email, datetime(2026, 1, 1, hour, tzinfo=UTC), UTC) is not None for hour in (7, 8, 21)]
    [True, False, True]
    """
    local = at.astimezone(zone)
    clock = f"{local:%H:%M}"
    for quiet in quiet_hours:
        if not applies_to(quiet, placement):
            continue
        if quiet.begin < quiet.end:
            begins_today, is_quiet = True, quiet.begin <= clock < quiet.end
        else:
            begins_today, is_quiet = clock >= quiet.begin, clock >= quiet.begin or clock < quiet.end
        day = local if begins_today else local - timedelta(days=1)
        if is_quiet and (not quiet.days or day.isoweekday() in quiet.days):
            return quiet
    return None


def applies_to(quiet: QuietHours, placement: Placement) -> bool:
    """Whether they are for this placement: those of its channel, or all that is pushed."""
    return placement.channel in quiet.channels if quiet.channels else placement.is_push


def zone_of(name: object, otherwise: tzinfo) -> tzinfo:
    """The customer's time zone, or the market's where theirs is missing or unknown.

    >>> from datetime import UTC
    >>> str(zone_of("Europe/Berlin", UTC)), zone_of("Atlantis", UTC) is UTC
    ('Europe/Berlin', True)
    """
    return (_zone(name) or otherwise) if isinstance(name, str) else otherwise


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except Exception:  # what it raises depends on how the name is wrong; a caller may have sent it
        return None
