"""Exceptions for JSON that cannot be decoded."""

from __future__ import annotations

import msgspec

#: msgspec raises UnicodeDecodeError if a string is not valid UTF-8.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
