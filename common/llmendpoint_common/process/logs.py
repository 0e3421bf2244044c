"""Logs on stderr: text if stderr is a terminal, otherwise one JSON object per line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with time (RFC 3339, UTC), level, logger and message."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logs(level: str) -> None:
    """Send the records of all loggers to stderr. `level` is the lowest level: debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def parse_level(text: str) -> str:
    """Return the name of a log level in lower case. Raises ValueError if the level is unknown."""
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"{text!r} is not a log level; choose debug, info, warning or error")
    return text.lower()
