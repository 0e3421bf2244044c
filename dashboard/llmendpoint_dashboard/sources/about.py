"""Writes the section `about`, whose parts come from several sources."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_dashboard.contract import About, ValueSection
from llmendpoint_dashboard.state import Hub


class AboutWriter:
    """Keeps the section, and replaces parts of it."""

    def __init__(self, hub: Hub, about: About) -> None:
        self._hub = hub
        self._about = about
        hub.set_section(ValueSection.ABOUT, about)

    def update(self, **parts: Any) -> None:
        """Replace fields of the section."""
        self._about = msgspec.structs.replace(self._about, **parts)
        self._hub.set_section(ValueSection.ABOUT, self._about)
