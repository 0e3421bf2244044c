"""Progress of a pull over all layers of a model. Ollama reports the bytes of each layer separately."""

from __future__ import annotations

from llmendpoint_sidecar.ollama.client import PullProgress


class PullTotals:
    """Sum of the layers that have been reported. `percent` never decreases."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self.percent = 0

    def update(self, progress: PullProgress) -> str:
        """Add a progress line, and return a status message for users."""
        if progress.status == "success":
            self.percent = 100
        if progress.digest and progress.total:
            self._layers[progress.digest] = (progress.completed, progress.total)
            done = sum(completed for completed, _ in self._layers.values())
            total = sum(total for _, total in self._layers.values())
            # Ollama verifies the layers and writes the manifest after the last byte, so only `success` means 100.
            self.percent = max(self.percent, min(99, 100 * done // total))
            return f"pulled {_size(done)} of {_size(total)}"
        return progress.status


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
