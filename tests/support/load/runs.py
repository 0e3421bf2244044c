"""Requests and runs with known figures, recorded as the load generator records them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmendpoint_common.contracts.loadrun import RunBaseline, RunDocument, RunLoad, RunRequest, RunTarget, Summary
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import ErrorClass, Sample

#: Length of the load of these runs in seconds.
LOAD_SECONDS = 100.0


def answered(ttft: float = 0.1, at: float = 1.0, tokens: int = 11, **fields: Any) -> Sample:
    """Return a request that was answered. Its tokens come within 0.1 s, so TPOT is 10 ms with 11 tokens."""
    first = at + ttft
    values: dict[str, Any] = {
        "scheduled": at, "sent": at, "first": first, "last": first + 0.1, "ended": first + 0.1, "first_output": first,
        "status": 200, "input_tokens": 7, "output_tokens": tokens, "chunks": tokens, "has_usage": True, "is_spread": True,
    }  # fmt: skip
    return Sample("id", "q", **{"category": "Math", **values, **fields})


def failed(error: ErrorClass = ErrorClass.SERVER_ERROR, at: float = 1.0, detail: str = "", **fields: Any) -> Sample:
    """Return a request that failed after 10 ms."""
    values = {"category": "Math", "scheduled": at, "sent": at, "ended": at + 0.01, "error": error, "detail": detail}
    return Sample("id", "q", **{**values, **fields})


def empty(at: float = 1.0, tokens: int = 0) -> Sample:
    """Return a request whose answer has no content, although the server may have counted tokens."""
    return failed(ErrorClass.EMPTY, at, "no content", status=200, has_usage=True, output_tokens=tokens)


def document_of(*objectives: str, baseline: float | None = None, stream: bool = True, **load: Any) -> RunDocument:
    """Return a run document with objectives such as `ttft:p95=1s`. `baseline` is the allowed regression."""
    return RunDocument(
        RunTarget("http://x"),
        "m",
        RunLoad(**load or {"concurrency": 1}),
        request=RunRequest(stream=stream),
        baseline=None if baseline is None else RunBaseline(baseline),
        objectives=tuple(parse_objective(text) for text in objectives),
    )


def measure(
    samples: Iterable[Sample],
    document: RunDocument,
    *,
    warmup: float = 0.0,
    lag: Sequence[float] = (),
    throttled: float = 0.0,
    cpu: float = 0.0,
    drain: float = 0.0,
    interrupted: bool = False,
) -> Measurements:
    """Return the measurements of a run whose load ends after LOAD_SECONDS. Its clock starts at `-warmup`."""
    recorder = Recorder(document)
    recorder.begin(-warmup, 0.0, LOAD_SECONDS)
    for sample in samples:
        recorder.record(sample)
    for seconds in lag:
        recorder.add_lag(seconds)
    recorder.set_throttled(throttled)
    recorder.set_cpu(cpu)
    return recorder.finish(LOAD_SECONDS + drain, interrupted=interrupted)


def run(samples: Iterable[Sample], *objectives: str, baseline: Summary | None = None, **settings: Any) -> Summary:
    """Return the summary of a run with these requests and objectives."""
    document = document_of(*objectives, baseline=None if baseline is None else 0.1)
    return summarize(measure(samples, document, **settings), document, baseline=baseline)
