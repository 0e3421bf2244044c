"""The whole state, and the events that change it."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_dashboard.contract.sections import Value


class State(Value, frozen=True, kw_only=True):
    """Answer of `GET /api/v1/state`, and data of the event `state`.

    `sections` has each section by its name: an object for a value section, a list of rows for a table section. A value
    section is absent until it is known; a table section is always there. `epoch` changes when the dashboard restarts,
    and `version` increases with every change within an epoch. The ID of an event is EPOCH-VERSION.
    """

    epoch: str
    version: int
    sections: dict[str, Any]


class SectionEvent(Value, frozen=True, kw_only=True):
    """Data of the event `section`: the new value of a value section."""

    name: str
    value: Any


class RowsEvent(Value, frozen=True, kw_only=True):
    """Data of the event `rows`: rows of a table section to add or replace, and keys of rows to remove."""

    name: str
    upsert: list[Any] = msgspec.field(default_factory=list)
    remove: list[str] = msgspec.field(default_factory=list)
