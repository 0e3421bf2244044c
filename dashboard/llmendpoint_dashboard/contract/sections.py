"""Names of the sections of the state, and the bases of their types."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ValueSection(StrEnum):
    """Names of the sections that are replaced as a whole."""

    ABOUT = "about"
    OVERVIEW = "overview"


class TableSection(StrEnum):
    """Names of the sections that consist of rows."""

    MODELS = "models"
    ENDPOINTS = "endpoints"
    LOADTESTS = "loadtests"
    REQUESTS = "requests"
    DOCTOR = "doctor"


class Value(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all types."""


class Row(Value, frozen=True, kw_only=True):
    """Base of all rows. `key` identifies a row in its table, and can be part of a URL after percent-encoding."""

    key: str
