"""Times as the stores keep them: whole microseconds since 1970 in UTC, the same in every database."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def to_microseconds(at: datetime) -> int:
    """Exact, unlike `timestamp()`.

    >>> to_microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005

    Raises:
        TypeError: The time has no time zone.
    """
    return (at - EPOCH) // _MICROSECOND


def from_microseconds(instant: int) -> datetime:
    """The time, in UTC; of any 64-bit integer, the nearest that Python can tell.

    >>> from_microseconds(1000005).isoformat()
    '1970-01-01T00:00:01.000005+00:00'
    """
    try:
        return EPOCH + timedelta(microseconds=instant)
    except OverflowError:
        # Year 1 east of Greenwich is year 0 in UTC. One such row must not keep all others from being read.
        return _FIRST if instant < 0 else _LAST
