"""The summary of a run whose samples are all in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmendpoint_common.contracts.loadrun import RunDocument, Summary
from llmendpoint_common.results import summary
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample


@dataclass
class Outcome:
    """Measurements of a run. Warm-up requests are not in `samples`.

    `duration` is the time in seconds from the end of the warm-up to the last response. `offered` counts the requests
    that were due in this time, and `sent` counts those of them that were sent before the load ended. `lag` contains
    delays of the event loop. `throttled_seconds` is the time for which the CPU limit throttled the process.
    `interrupted` is true if the run was stopped before its end. Requests that were in flight then are not in `samples`.
    """

    samples: list[Sample] = field(default_factory=list)
    duration: float = 0.0
    offered: int = 0
    sent: int = 0
    lag: Histogram = field(default_factory=Histogram)
    throttled_seconds: float = 0.0
    interrupted: bool = False


def summarize(outcome: Outcome, document: RunDocument) -> Summary:
    """Return the summary of a run, with its verdict."""
    recorder = Recorder(document)
    recorder.begin(0.0, 0.0, outcome.duration)
    for sample in outcome.samples:
        recorder.record(sample)
    recorder.set_throttled(outcome.throttled_seconds)
    measurements = recorder.finish(outcome.duration, interrupted=outcome.interrupted)
    measurements.lag.merge(outcome.lag)
    recorder.finish(outcome.duration, interrupted=outcome.interrupted)
    measurements.offered, measurements.sent = outcome.offered, outcome.sent
    measurements.unsent = max(0, outcome.offered - outcome.sent)
    return summary.summarize(measurements, document)
