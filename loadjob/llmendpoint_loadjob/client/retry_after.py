"""Reads the header Retry-After (RFC 9110, 10.2.3)."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

#: A longer wait is not a request to slow down.
_MAX_SECONDS = 86400.0


def seconds_of(value: bytes) -> float | None:
    """Return the seconds to wait, or None if the header is absent or not valid."""
    text = value.decode("latin-1").strip()
    if text.isdecimal() and text.isascii():
        return min(float(text), _MAX_SECONDS)
    try:
        # A date is in the wall clock of the server, which no other clock here has to do with.
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), _MAX_SECONDS)
