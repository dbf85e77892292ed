"""Three messages in a row that come back softly close the channel; one that arrives begins the count anew."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.content_types import NO_ACTION
from tests.builders import NOW
from tests.serving.test_engine import Shop


def bounce(message: int, **fields: Any) -> dict[str, Any]:
    return told("bounce", message, **{"detail": "soft"} | fields)


def told(kind: str, message: int, *, at: int | None = None, **fields: Any) -> dict[str, Any]:
    """Of the message of this number; `at` minutes, its number when absent."""
    minutes = message if at is None else at
    occurred_at = NOW - timedelta(hours=1) + timedelta(minutes=minutes)
    return {
        "decision_id": f"d-{message}",
        "outcome_id": f"{kind}-{message}-{minutes}",
        "type": kind,
        "occurred_at": occurred_at.isoformat(),
        **fields,
    }


def details(shop: Shop) -> list[str | None]:
    """Of the outcomes, as hot state was told them."""
    return [each.outcome.detail for each in shop.hot_state.applied]


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    for message in range(1, 8):
        shop.decide(decision_id=f"d-{message}", limit=1, exclude=[NO_ACTION], customer_id="c-1")
    shop.decide(decision_id="d-90", limit=1, exclude=[NO_ACTION], customer_id="c-2")
    return shop


def test_the_third_message_in_a_row_is_one_too_many_and_is_kept_so(shop: Shop) -> None:
    for message in (1, 2, 3):
        shop.report(bounce(message))
    assert details(shop) == ["soft", "soft", "repeated"]
    assert [outcome.detail for outcome, _ in shop.ledger.outcomes.values()] == ["soft", "soft", "repeated"]


def test_three_in_one_call_are_three(shop: Shop) -> None:
    shop.report(bounce(1), bounce(90, at=1), bounce(2), bounce(3))
    assert details(shop) == ["soft", "soft", "soft", "repeated"]


@pytest.mark.parametrize("order", [(3, 1, 2), (2, 3, 1), (3, 2, 1)])
def test_whichever_arrives_last_closes_the_channel(order: tuple[int, ...], shop: Shop) -> None:
    for message in order:
        shop.report(bounce(message))
    assert details(shop) == ["soft", "soft", "repeated"]


@pytest.mark.parametrize("kind", ["delivered", "open", "click"])
@pytest.mark.parametrize("by", [None, "machine"])
def test_what_arrives_begins_the_count_anew(kind: str, by: str | None, shop: Shop) -> None:
    shop.report(bounce(1), bounce(2), told(kind, 3, detail=by), bounce(4), bounce(5))
    assert "repeated" not in details(shop)
    shop.report(bounce(6))
    assert details(shop)[-1] == "repeated"


def test_what_is_only_sent_begins_nothing_anew(shop: Shop) -> None:
    shop.report(bounce(1), told("sent", 2), bounce(2), told("sent", 3), bounce(3))
    assert details(shop)[-1] == "repeated"


def test_one_message_that_comes_back_three_times_is_one(shop: Shop) -> None:
    shop.report(*(bounce(1, at=minute) for minute in range(5)), bounce(2))
    assert set(details(shop)) == {"soft"}


def test_bounces_of_others_and_of_other_kinds_do_not_count(shop: Shop) -> None:
    shop.report(bounce(1), bounce(90, at=1), bounce(2, detail=None), bounce(3))
    assert details(shop) == ["soft", "soft", None, "soft"]


def test_told_again_it_is_the_same(shop: Shop) -> None:
    reports = [bounce(1), bounce(2), bounce(3)]
    shop.report(*reports)
    assert [result.status for result in shop.report(*reports)] == ["duplicate"] * 3
    assert details(shop) == ["soft", "soft", "repeated"] * 2


def test_after_the_channel_was_closed_the_count_begins_anew_for_who_consents_again(shop: Shop) -> None:
    shop.report(bounce(1), bounce(2), bounce(3))
    shop.report(bounce(4), bounce(5))
    assert details(shop)[3:] == ["soft", "soft"]
    shop.report(bounce(6))
    assert details(shop)[-1] == "repeated"


def test_nobody_reports_that_a_bounce_is_repeated(shop: Shop) -> None:
    with pytest.raises(Exception, match="Invalid enum value 'repeated'"):
        shop.report(bounce(1, detail="repeated"))
