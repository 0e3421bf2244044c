"""The summary of a run whose samples are all in memory."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import RunDocument, Summary
from llmendpoint_common.results import summary
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Outcome


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
