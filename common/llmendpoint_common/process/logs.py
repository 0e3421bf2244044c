"""Logs on stderr: text if stderr is a terminal, otherwise one JSON object per line.

`log_fields` adds fields to all records of the current task, also to those of libraries. Credentials in messages and
tracebacks, which come from headers and URLs, are replaced.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TextIO

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))
_SECRETS = (
    # A header such as `Authorization: Bearer eyJ…`, in the notations of dicts and of HTTP.
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), r"\1 [hidden]"),
    # User and password in a URL.
    (re.compile(r"(://)[^/\s:@]+:[^/\s@]+@"), r"\1[hidden]@"),
    # A JSON Web Token in any place.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"), "[hidden]"),
)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add fields to the records of this task, and of tasks that it starts, until the end of the context."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def without_secrets(text: str) -> str:
    """Return a text in which bearer tokens, basic credentials and passwords in URLs are replaced."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class TextFormatter(logging.Formatter):
    """Formats a record as text for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one."""
        return without_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with time (RFC 3339, UTC), level, logger, message and `log_fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **_fields.get(),
        }
        if record.exc_info:
            entry["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes each record to the present `sys.stderr`. A live line on a terminal replaces it to stay below records."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The stream."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        raise AttributeError("the stream is always stderr")


def configure_logs(level: str) -> None:
    """Send the records of all loggers to stderr. `level` is the lowest level: debug, info, warning or error."""
    handler = StderrHandler()
    if sys.stderr.isatty():
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def parse_level(text: str) -> str:
    """Return the name of a log level in lower case. Raises ValueError if the level is unknown."""
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"{text!r} is not a log level; choose debug, info, warning or error")
    return text.lower()
