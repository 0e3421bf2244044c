"""Progress of a pull over all layers of a model. Ollama reports the bytes of each layer separately."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from llmendpoint_sidecar.ollama.client import PullProgress

#: The speed is the mean of this time: long enough for an estimate that does not jump, and short enough to show a
#: registry that stops.
_WINDOW_SECONDS = 15.0


class PullTotals:
    """Sum of the layers that have been reported. `percent` never decreases. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._layers: dict[str, tuple[int, int]] = {}
        self._fetched = 0
        self._past = deque([(clock(), 0)])
        self.percent = 0

    def update(self, progress: PullProgress) -> str:
        """Add a progress line, and return a status message for users."""
        if progress.status == "success":
            self.percent = 100
        if progress.digest and progress.total:
            # What a layer has when it is first reported is there already: from an earlier pull, or another model.
            before, _ = self._layers.get(progress.digest, (progress.completed, 0))
            self._fetched += max(0, progress.completed - before)
            self._layers[progress.digest] = (progress.completed, progress.total)
            self._note()
            # Ollama verifies the layers and writes the manifest after the last byte, so only `success` means 100.
            self.percent = max(self.percent, min(99, 100 * self.done // self.total))
            return f"pulled {size_text(self.done)} of {size_text(self.total)}"
        return progress.status

    @property
    def bytes_per_second(self) -> int:
        """The present speed. It is 0 if no byte arrived in the last seconds."""
        (since, first), now = self._past[0], self._clock()
        return int((self._fetched - first) / (now - since)) if now > since else 0

    @property
    def remaining_seconds(self) -> int:
        """The time until all layers that are known have arrived, or 0 if it is not known."""
        speed = self.bytes_per_second
        return -(-(self.total - self.done) // speed) if speed else 0

    @property
    def done(self) -> int:
        """Bytes that are there, of all layers that are known."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Size of all layers that are known, in bytes."""
        return sum(total for _, total in self._layers.values())

    def _note(self) -> None:
        now = self._clock()
        self._past.append((now, self._fetched))
        while len(self._past) > 1 and now - self._past[1][0] >= _WINDOW_SECONDS:
            self._past.popleft()


def size_text(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
