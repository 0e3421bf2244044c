"""Decides which load test of a schedule is due. Has no clock and no side effects.

Only the last scheduled time counts: after the operator was down, or the clock jumped ahead, one load test is created
and not one for each missed time. If the clock jumps back by less than a day, no time is due until it has caught up. If
it jumps back by more, it was wrong before, and the schedule applies from the present time on.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from llmendpoint_common.api.schedule.spec import LoadTestScheduleSpec

#: A recorded time that is further ahead is wrong. Wrong time zones and changes of the clocks are smaller than that.
_CLOCK_ERROR = timedelta(days=1)


def due(spec: LoadTestScheduleSpec, since: datetime, last: datetime | None, now: datetime) -> datetime | None:
    """Return the scheduled time whose load test is to be created now, or None.

    `since` is the time from which on the schedule applies, and `last` the last scheduled time that was used.
    """
    if spec.suspend:
        return None
    found = spec.cron.last(now)
    if found is None or found <= since or (last is not None and found <= last):
        return None
    return None if is_late(spec, found, now) else found


def is_late(spec: LoadTestScheduleSpec, time: datetime, now: datetime) -> bool:
    """Return whether the starting deadline of a scheduled time has passed."""
    seconds = spec.starting_deadline_seconds
    return seconds is not None and now - time > timedelta(seconds=seconds)


def is_wrong(time: datetime | None, now: datetime) -> bool:
    """Return whether a time was recorded while the clock was ahead by more than a day."""
    return time is not None and time - now > _CLOCK_ERROR
