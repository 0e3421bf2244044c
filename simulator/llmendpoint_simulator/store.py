"""Models of the simulator, and their state: present or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from llmendpoint_common.contracts.ollama import canonical_name
from llmendpoint_simulator.slots import Slots

_SIZE = 1_000_000
FOREVER = timedelta(days=36500)


class Store:
    """Models by canonical name, with their slots and the time at which they leave memory."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.present: dict[str, str] = {}
        self._loaded: dict[str, datetime] = {}
        self.slots: dict[str, Slots] = {}

    def add(self, name: str, digest: str = "") -> None:
        """Add a model. The default digest is a hash of its name."""
        canonical = canonical_name(name)
        self.present[canonical] = digest or hashlib.sha256(canonical.encode()).hexdigest()
        self.slots.setdefault(canonical, Slots())

    def remove(self, name: str) -> bool:
        """Remove a model. Returns False if it was not present."""
        canonical = canonical_name(name)
        self.unload(canonical)
        return self.present.pop(canonical, None) is not None

    def is_loaded(self, name: str) -> bool:
        """Return whether a model is in memory."""
        return self._loaded.get(name, datetime.min.replace(tzinfo=UTC)) > self._now()

    def load(self, name: str, keep_alive: timedelta) -> None:
        """Keep a model in memory for `keep_alive` from now."""
        self._loaded[name] = self._now() + keep_alive

    def unload(self, name: str) -> None:
        """Remove a model from memory."""
        self._loaded.pop(name, None)

    def listing(self) -> list[dict[str, Any]]:
        """Return the models of `/api/tags`."""
        return [
            {
                "name": name,
                "model": name,
                "modified_at": self._now().isoformat(),
                "size": _SIZE,
                "digest": digest,
                "details": _details(),
            }
            for name, digest in sorted(self.present.items())
        ]

    def loaded_listing(self) -> list[dict[str, Any]]:
        """Return the models of `/api/ps`."""
        return [
            {
                "name": name,
                "model": name,
                "size": _SIZE,
                "digest": self.present[name],
                "details": _details(),
                "expires_at": until.isoformat(),
                "size_vram": _SIZE,
                "context_length": 4096,
            }
            for name, until in sorted(self._loaded.items())
            if self.is_loaded(name) and name in self.present
        ]


def _details() -> dict[str, Any]:
    return {"format": "gguf", "family": "simulated", "parameter_size": "1M", "quantization_level": "F16"}
