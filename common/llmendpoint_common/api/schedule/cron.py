"""Scheduled times: a cron expression in a time zone. Has no clock; times are aware datetimes.

The expressions are those of Kubernetes' CronJobs, evaluated by cronsim, which follows Debian's cron in a change of the
clocks: a fixed time that is skipped is moved to the change, and one that occurs twice is used once. CronJobs would skip
the former (docs/decisions/0042-load-tests-on-a-cluster.md).

cronsim is imported when an expression is evaluated. The command line reads the types of the API without it, to compare
them with the definitions of a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: The expressions of the macros, as in CronJobs.
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """The times of an expression in a time zone."""

    expression: str
    zone: ZoneInfo

    def last(self, now: datetime) -> datetime | None:
        """Return the last time that is not after `now`, or None if it is decades ago."""
        local = (now + _MINUTE).astimezone(self.zone)
        found = next((time for time in self._times(local, reverse=True) if time <= now), None)
        # In an hour that occurs twice, cronsim searches back from the first of the two.
        while found is not None and (later := self.next(found)) is not None and later <= now:
            found = later
        return found

    def next(self, now: datetime) -> datetime | None:
        """Return the first time after `now`, or None if it is decades away."""
        return next((time for time in self._times(now.astimezone(self.zone), reverse=False) if time > now), None)

    def _times(self, start: datetime, *, reverse: bool) -> Iterator[datetime]:
        from cronsim import CronSim  # noqa: PLC0415

        return (time.astimezone(UTC) for time in CronSim(self.expression, start, reverse=reverse))


def check_expression(text: str) -> str:
    """Return a cron expression or macro. Raises ValueError with the field that is wrong."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415

    try:
        CronSim(MACROS.get(text, text), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        words = str(error)
        raise ValueError(f"not a cron expression: {words[:1].lower()}{words[1:]}") from None
    return text


def check_zone(name: str) -> str:
    """Return the name of a time zone. Raises ValueError if it is unknown."""
    _zone(name)
    return name


def cron_of(schedule: str, zone: str) -> Cron:
    """Return the times of a schedule. Raises ValueError if it is wrong."""
    check_expression(schedule)
    return Cron(MACROS.get(schedule, schedule), _zone(zone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"the time zone {name!r} is not known; write it like Europe/Berlin or Etc/UTC") from None
