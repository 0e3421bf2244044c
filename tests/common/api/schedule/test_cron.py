"""Scheduled times: the expressions of CronJobs, in a time zone, across changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.api.schedule.cron import check_expression, check_zone, cron_of


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "now", "last", "following"),
    [
        ("0 3 * * *", "Etc/UTC", "2026-06-01T03:00", "2026-06-01T03:00", "2026-06-02T03:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-06-01T02:00", "2026-06-01T01:00", "2026-06-02T01:00"),
        ("@hourly", "Asia/Kolkata", "2026-06-01T03:10", "2026-06-01T02:30", "2026-06-01T03:30"),
        ("*/15 9-10 * * MON-FRI", "Etc/UTC", "2026-06-06T12:00", "2026-06-05T10:45", "2026-06-08T09:00"),
        # If both day fields are restricted, one of them has to match: the first day of the month, or a Monday.
        ("0 0 1 * 1", "Etc/UTC", "2026-06-02T00:00", "2026-06-01T00:00", "2026-06-08T00:00"),
        # The clocks go from 02:00 to 03:00 on March 29, and from 03:00 to 02:00 on October 25.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:59", "2026-03-28T01:30", "2026-03-29T01:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-30T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T01:00", "2026-10-25T00:30", "2026-10-25T01:30"),
        ("0 0 29 2 *", "Etc/UTC", "2026-06-01T00:00", "2024-02-29T00:00", "2028-02-29T00:00"),
    ],
)
def test_times_around_now(expression: str, zone: str, now: str, last: str, following: str) -> None:
    cron = cron_of(expression, zone)
    assert (cron.last(at(now)), cron.next(at(now))) == (at(last), at(following))


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)), st.sampled_from(["Europe/Berlin", "America/New_York"])
)
def test_each_time_is_reached_from_both_sides(moment: datetime, zone: str) -> None:
    for expression in ("30 2 * * *", "15 */2 * * *", "0 3 * * 1-5"):
        cron = cron_of(expression, zone)
        following = cron.next(moment.replace(tzinfo=UTC))
        assert following is not None
        assert cron.last(following) == following
        assert cron.last(following + timedelta(seconds=59)) == following


@pytest.mark.parametrize(
    "expression", ["60 * * * *", "* * * *", "0 0 30 2 *", "a b c d e", "0 0 * * 8", "@every 5m", "*/0 * * * *"]
)
def test_a_wrong_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="not a cron expression"):
        check_expression(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../x", "Europe"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="is not known; write it like Europe/Berlin"):
        check_zone(zone)
