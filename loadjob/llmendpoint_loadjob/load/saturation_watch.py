"""Watches each level of an open loop for saturation, and says when it began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import Arrivals, RunLoad, Saturation
from llmendpoint_common.process.units import format_duration
from llmendpoint_loadjob.load.arrivals import dispersion_of
from llmendpoint_loadjob.load.curve import LoadCurve, Segment
from llmendpoint_loadjob.load.saturation import SaturationDetector
from llmendpoint_loadjob.load.schedule import Due, Slice
from llmendpoint_loadjob.load.window import Window
from llmendpoint_loadjob.result.timings import ErrorClass, Sample

_REFUSED = frozenset((ErrorClass.TOO_MANY_REQUESTS, ErrorClass.UNAVAILABLE))


@dataclass
class SaturationWatch:
    """Notes the requests of an open loop. `on_found` is called once, with the first saturation."""

    load: RunLoad
    curve: LoadCurve
    part: Slice
    window: Window
    in_flight: Callable[[], int]
    on_found: Callable[[Saturation], None]
    _segment: Segment | None = None
    _detector: SaturationDetector | None = None
    _base: int = 0
    _is_found: bool = False

    def due(self, due: Due, at: float) -> None:
        """Note a request of this pod that is due."""
        segment = self.curve.segment_at(due.offset)
        if segment is None:
            return
        if segment is not self._segment:
            self._segment, self._base = segment, self._number(due)
            law = self.load.arrivals or Arrivals.POISSON
            self._detector = SaturationDetector(dispersion_of(law, self.load.burstiness))
        if self._detector is not None:
            rate = segment.level_at(due.offset) / self.part.pods
            # If the requests in flight are limited, the others that are due wait in the load generator.
            backlog = rate * max(0.0, self.window.clock() - at)
            self._detector.due(at, self.in_flight() + round(backlog))

    def ended(self, due: Due, sample: Sample) -> None:
        """Note the end of a request of this pod."""
        number = self._number(due) - self._base
        if self._is_found or self._detector is None or number < 0 or sample.error is ErrorClass.UNFINISHED:
            return
        latency = sample.ended - sample.scheduled
        ttft = None if sample.error is not None else sample.ttft_scheduled
        own_delay = sample.queue_delay - sample.held
        self._detector.ended(number, latency, ttft, is_refused=sample.error in _REFUSED, own_delay=own_delay)
        growth = self._detector.check()
        if growth is not None:
            self._is_found = True
            self._found(growth.begin, growth.rate * self.part.pods, growth.sentence)

    def _number(self, due: Due) -> int:
        return due.number // self.part.pods

    def _found(self, begin: float, rate: float, sentence: str) -> None:
        measured_from = self.window.measured_from
        since = max(0.0, begin - measured_from)
        noticed = format_duration(round(max(0.0, self.window.clock() - measured_from), 1))
        message = f"the server could not follow {rate:.4g} requests/s: {sentence} (noticed {noticed} after the warm-up)"
        self.on_found(Saturation(at_seconds=since, offered_rate=rate, message=message))
