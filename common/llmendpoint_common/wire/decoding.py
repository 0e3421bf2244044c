"""Errors that mean that JSON cannot be read."""

from __future__ import annotations

import msgspec

#: msgspec raises the second one for a string that is not UTF-8.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
