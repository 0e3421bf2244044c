"""Reads the history of our metrics from Prometheus, with a range query for each series.

Everything is bounded: the ranges and their steps are fixed, so a range has at most 360 points, and an answer has at
most some MiB. Two histories are read at the same time; the next ones wait.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from llmendpoint_common.contracts.sidecar import METRIC_PREFIX, Metric
from llmendpoint_dashboard.contract import Series, SeriesName
from llmendpoint_dashboard.sources.exposition import Gauge, Kind
from llmendpoint_dashboard.sources.ring import Selection
from llmendpoint_dashboard.sources.sidecar import bounded_body
from llmendpoint_dashboard.sources.traffic import GOOD, rounded

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MAX_BYTES = 4 * 1024 * 1024
_MAX_CONCURRENT = 2
#: Rates are computed over at least four intervals of a scrape every 15 s, as Grafana's $__rate_interval.
_MIN_RATE_SECONDS = 60
#: Series of errors that are shown.
_MAX_OUTCOMES = 32


class PrometheusError(Exception):
    """Prometheus did not answer a query. The message is the end of a sentence."""


@dataclass(frozen=True)
class Query:
    """A series, and the expression that computes it. With `by_outcome`, the result has a series for each outcome."""

    name: SeriesName
    expression: str
    by_outcome: bool = False


class _Result(msgspec.Struct):
    values: list[tuple[float, str]]
    metric: dict[str, str] = {}


class _Data(msgspec.Struct):
    result: list[_Result] = []


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""


_answer = msgspec.json.Decoder(_Answer)


class Prometheus:
    """A Prometheus server. If there are `namespaces`, only series of these are read."""

    def __init__(self, url: str, namespaces: Sequence[str] = ()) -> None:
        self.url = url
        self._namespaces = tuple(namespaces)
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def series(
        self, session: aiohttp.ClientSession, times: Sequence[float], step: float, selection: Selection
    ) -> list[Series]:
        """Return the series at some Unix times, `step` seconds apart. Raises PrometheusError."""
        queries = queries_of(selection, self._namespaces, step)
        async with self._slots:
            try:
                async with asyncio.timeout(_TIMEOUT.total):
                    answers = await asyncio.gather(*(self._ask(session, query, times, step) for query in queries))
            except TimeoutError:
                raise PrometheusError(f"it did not answer within {_TIMEOUT.total:g} s") from None
            except aiohttp.ClientConnectorError:
                raise PrometheusError("no connection could be opened") from None
            except (aiohttp.ClientError, OSError):
                raise PrometheusError("the connection was closed") from None
            except (msgspec.MsgspecError, UnicodeError, ValueError):
                raise PrometheusError("its answer cannot be read") from None
        return [
            series
            for query, answer in zip(queries, answers, strict=True)
            for series in _series(query, answer, times, step)
        ]

    async def _ask(
        self, session: aiohttp.ClientSession, query: Query, times: Sequence[float], step: float
    ) -> list[_Result]:
        form = {
            "query": query.expression,
            "start": f"{times[0]:.3f}",
            "end": f"{times[-1]:.3f}",
            "step": f"{step:g}",
            "timeout": f"{_TIMEOUT.total:g}s",
        }
        url = f"{self.url}/api/v1/query_range"
        async with session.post(url, data=form, timeout=_TIMEOUT, allow_redirects=False) as response:
            body = await bounded_body(response, _MAX_BYTES)
            if response.status != 200:
                raise PrometheusError(f"a query was answered with status {response.status}")
        answer = _answer.decode(body)
        if answer.status != "success":
            raise PrometheusError("a query failed")
        return answer.data.result


def queries_of(selection: Selection, namespaces: Sequence[str], step: float) -> list[Query]:
    """Return the queries of a history."""
    seconds = max(_MIN_RATE_SECONDS, math.ceil(step))
    window = f"[{seconds}s]"
    scope = [] if not namespaces else [f"namespace=~{_quoted('|'.join(map(_literal, namespaces)))}"]
    model = [] if selection.model is None else [f"model_name={_quoted(selection.model)}"]
    tenant = [] if selection.tenant is None else [f"tenant={_quoted(selection.tenant)}"]
    counted = [*scope, *model, *tenant]
    bad = f"outcome!~{_quoted('|'.join(sorted(GOOD)))}"
    queries = [
        Query(SeriesName.PROMPT_TOKENS, f"sum(rate({_name(Kind.PROMPT_TOKENS, counted)}{window}))"),
        Query(SeriesName.GENERATION_TOKENS, f"sum(rate({_name(Kind.GENERATION_TOKENS, counted)}{window}))"),
    ]
    if selection.tenant is None:
        measured = [*scope, *model]
        queries += [
            Query(SeriesName.RUNNING, _in_flight(Gauge.RUNNING, Metric.REQUESTS_RUNNING, scope, model)),
            Query(SeriesName.WAITING, _in_flight(Gauge.WAITING, Metric.REQUESTS_WAITING, scope, model)),
            Query(SeriesName.TTFT_P50, _quantile(0.5, Kind.TTFT, measured, window)),
            Query(SeriesName.TTFT_P95, _quantile(0.95, Kind.TTFT, measured, window)),
            Query(SeriesName.INTER_CHUNK_P50, _quantile(0.5, Kind.INTER_CHUNK, measured, window)),
            Query(SeriesName.INTER_CHUNK_P95, _quantile(0.95, Kind.INTER_CHUNK, measured, window)),
        ]
    requests = _name(Kind.REQUESTS, [*counted, bad])
    errors = f"sum by (outcome) ({_first(requests, seconds, scope)} or rate({requests}{window})) > 0"
    return [*queries, Query(SeriesName.ERRORS, f"topk({_MAX_OUTCOMES}, {errors})", by_outcome=True)]


def _name(family: Kind | Gauge, selectors: Sequence[str]) -> str:
    return f"{METRIC_PREFIX}{family.value}{{{','.join(selectors)}}}"


def _first(counter: str, seconds: int, scope: Sequence[str]) -> str:
    """Return the rates of counters that a running sidecar has begun to expose within the last `seconds`.

    A counter of errors begins with the first error, so rate() has no sample before it and does not count it. Such a
    counter has fewer samples than a metric that the sidecar always exposes. If it has as many, what it counted before
    Prometheus began to read the sidecar is not known, and it is left to rate().
    """
    window = f"[{seconds}s]"
    scrapes = f"max by (job, instance) (count_over_time({Metric.REQUESTS_RUNNING.value}{{{','.join(scope)}}}{window}))"
    is_younger = f"count_over_time({counter}{window}) < on (job, instance) group_left () {scrapes}"
    return f"((last_over_time({counter}{window}) unless {counter} offset {seconds}s) and ({is_younger})) / {seconds}"


def _in_flight(gauge: Gauge, whole: Metric, scope: Sequence[str], model: Sequence[str]) -> str:
    """Return the requests in flight. A model without any has no series, and then the answer is 0."""
    total = f"sum({whole.value}{{{','.join(scope)}}})"
    return f"sum({_name(gauge, [*scope, *model])}) or 0 * {total}" if model else total


def _quantile(share: float, kind: Kind, selectors: Sequence[str], window: str) -> str:
    return f"histogram_quantile({share:g}, sum by (le) (rate({_name(kind, selectors)}{window})))"


def _quoted(text: str) -> str:
    """Return a string of PromQL. Its escapes are those of Go, of which those of JSON are a part."""
    return msgspec.json.encode(text).decode()


def _literal(name: str) -> str:
    """Return a namespace as a regular expression. Names of namespaces have no other special character than the dash."""
    return name.replace(".", "\\.")


def _series(query: Query, results: Iterable[_Result], times: Sequence[float], step: float) -> Iterable[Series]:
    """Yield the series of an answer. Points that Prometheus does not have are None."""
    found = list(results)
    if not query.by_outcome and not found:
        found = [_Result([])]
    for result in found:
        by_place = {round((time - times[0]) / step): value for time, value in result.values}
        values = [_number(by_place.get(place)) for place in range(len(times))]
        yield Series(
            name=query.name, values=values, outcome=result.metric.get("outcome", "") if query.by_outcome else ""
        )


def _number(text: str | None) -> float | None:
    """Return a number. A quantile of no values is NaN."""
    try:
        value = math.nan if text is None else float(text)
    except ValueError:
        return None
    return rounded(value) if math.isfinite(value) else None
