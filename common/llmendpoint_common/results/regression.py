"""The regression gate: compares a run with a baseline, so that equal servers are rarely told apart by chance.

A metric has regressed if it is certainly worse than the baseline by more than the allowed share: the lower bound of its
confidence interval is above the upper bound of the baseline's, multiplied by 1 + `maxRegression`. For two runs of equal
servers, one of the bounds must then miss its true value. All bounds together (8 comparisons with two bounds each) miss
with a probability of at most FALSE_ALARMS (Bonferroni), so this is the rate of false alarms of the whole gate, for any
distribution of the latencies and for any allowed share. The bounds hold for independent requests; `estimates` says how
others are counted.

A comparison has one of three outcomes. It is worse if the metric has regressed. It is within the limit if the measured
value is, and if the bounds are so close that a value of twice the limit would have been found. Otherwise, it cannot
tell. A run needs comparisons of the medians and of the error rate that are as close; the others are made if they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, floor, inf, log, log10
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    Environment,
    Metric,
    MetricName,
    RegressionResult,
    RunDocument,
    Summary,
    VerdictReason,
)
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.confidence import Interval
from llmendpoint_common.results.differences import differences, has_same_load
from llmendpoint_common.results.estimates import Estimate, RunEstimates
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.words import NEVER_ANSWERED, listed

#: Probability with which the gate finds a regression between two runs of equal servers.
FALSE_ALARMS = 0.01
#: Multiple of the limit that a comparison has to be able to find. Otherwise it cannot tell.
FOUND_FACTOR = 2.0
_MEDIAN = 50
_PERCENTILES = (_MEDIAN, 95)
_LATENCIES = (MetricName.TTFT, MetricName.TPOT, MetricName.REQUEST_LATENCY)
_COMPARISONS = len(_LATENCIES) * len(_PERCENTILES) + 2
#: Probability with which one bound misses its true value.
_SIDE = FALSE_ALARMS / (2 * _COMPARISONS)
#: Requests of which the smallest and the largest value are bounds of the median: 11.
MIN_REQUESTS = ceil(log(_SIDE) / log(0.5))
#: Number of requests above which it is not said how many are needed.
_MAX_NEEDED = 10_000_000
_GROWTH = 1.1
_MAX_CHANGE = 1e9


@dataclass(frozen=True)
class Comparison:
    """A comparison with a baseline.

    `problem` is why there is none, as a sentence. `missing` are metrics that only the baseline has. `too_few` has a
    sentence if one of the runs has too few requests for a verdict. `delayed` are metrics that have regressed unless the
    delays of the load generator are the reason. `differences` are sentences about settings.
    """

    results: tuple[RegressionResult, ...] = ()
    differences: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""
    too_few: tuple[str, ...] = ()
    delayed: tuple[str, ...] = ()


def compare(
    measurements: Measurements, document: RunDocument, baseline: Summary | None, environment: Environment
) -> Comparison | None:
    """Return the comparison of a run with its baseline, or None if the document has no baseline."""
    if document.baseline is None:
        return None
    if baseline is None:
        return Comparison(problem="there is no result of the baseline to compare with")
    before = _measurements_of(baseline)
    if isinstance(before, str):
        return Comparison(problem=before)
    notes = tuple(differences(document, environment, baseline))
    if measurements.interrupted or not measurements.whole.requests:
        # A partial result is not judged.
        return Comparison(differences=notes)
    comparison = _compare(
        measurements, before, document.baseline.max_regression, same_load=has_same_load(document, baseline)
    )
    return replace(comparison, differences=notes)


def comparison_facts(comparison: Comparison) -> Iterator[str]:
    """Yield the facts of a comparison without a regression."""
    untold = [result for result in comparison.results if not result.judged]
    certainly = "certainly " if untold else ""
    yield f"no metric is {certainly}worse than in the baseline by more than is allowed"
    if untold:
        yield f"this cannot be told of {listed([_untold_words(result) for result in untold])}"


def _untold_words(result: RegressionResult) -> str:
    needed = f"; about {result.needed:,} requests are needed in each run" if result.needed else ""
    return f"{result.metric} ({result.baseline}, now {result.measured}{needed})"


def _measurements_of(baseline: Summary) -> Measurements | str:
    """Return the measurements of the baseline, or a sentence why there are none to compare with."""
    if baseline.partial:
        return "the baseline is partial: its run was stopped before its end"
    if baseline.reason is VerdictReason.CLIENT_LIMITED:
        # Its latencies are too long, so that a regression would not be seen.
        return "the load generator was the bottleneck of the baseline"
    try:
        measurements = Measurements.decode(baseline.measurements)
    except RunResultError:
        return "the baseline has no measurements that can be compared"
    if not measurements.whole.answered:
        return "no request of the baseline was answered"
    if 2 * measurements.whole.errors > measurements.whole.requests:
        return "more than half of the requests of the baseline failed, so it has no median to compare with"
    return measurements


class _Pair(NamedTuple):
    """Estimates of a metric in both runs. A higher value is worse. `show` formats a value."""

    name: str
    before: Estimate
    now: Estimate
    show: Callable[[float], str]
    #: Whether a verdict needs the comparison.
    is_needed: bool = False
    #: Whether a value of twice the limit would have been found, or None if that depends on the bounds.
    is_close: bool | None = None
    #: The bounds of `now` without the delays of the load generator, which only make it worse. None if they do not.
    calm: Interval | None = None

    def has_regressed(self, allowed: float) -> bool:
        """Return whether the metric is certainly worse than in the baseline, whatever the delays are."""
        return _has_regressed(self.before.bounds, self.calm or self.now.bounds, allowed)

    def is_delayed(self, allowed: float) -> bool:
        """Return whether only the delays can be the reason for which it seems to be worse."""
        return not self.has_regressed(allowed) and _has_regressed(self.before.bounds, self.now.bounds, allowed)


@dataclass
class _Pairs:
    """The metrics that both runs measured, and those that only the baseline measured."""

    pairs: list[_Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def _compare(measurements: Measurements, baseline: Measurements, allowed: float, *, same_load: bool) -> Comparison:
    now, before = RunEstimates(measurements, _SIDE), RunEstimates(baseline, _SIDE)
    found = _Pairs()
    for name in _LATENCIES:
        _add_latency(found, METRICS[name], before, now)
    if same_load:
        # The throughput depends on the load more than on the server.
        found.pairs.append(_throughput(before.rate(), now.rate()))
    found.pairs.append(_error_rate(before.error_rate(), now.error_rate()))
    return Comparison(
        tuple(_result(pair, allowed) for pair in found.pairs),
        missing=tuple(found.missing),
        too_few=tuple(_too_few(found.pairs, measurements, baseline)),
        delayed=tuple(_both(pair) for pair in found.pairs if pair.is_delayed(allowed)),
    )


def _add_latency(found: _Pairs, metric: Metric, before: RunEstimates, now: RunEstimates) -> None:
    has_before, has_now = (bool(run.whole.histogram(metric.field).counts) for run in (before, now))
    if has_before and not has_now and now.whole.answered:
        found.missing.append(metric.name.value)
    if not has_before or not has_now:
        return
    for percent in _PERCENTILES:
        name, was, seen = (
            f"{metric.name.value} p{percent}",
            before.latency(metric, percent),
            now.latency(metric, percent),
        )
        calm = now.without_lag(metric, seen).bounds
        show = partial(_latency_text, metric)
        found.pairs.append(_Pair(name, was, seen, show, is_needed=percent == _MEDIAN, calm=calm))


def _latency_text(metric: Metric, value: float) -> str:
    return NEVER_ANSWERED if value == inf else metric.format(value)


def _throughput(before: Estimate, now: Estimate) -> _Pair:
    """Return the throughputs as times per request, so that a higher value is worse."""

    def inverse(estimate: Estimate) -> Estimate:
        def bounds_of(requests: int) -> Interval:
            low, high = estimate.bounds_of(requests)
            return Interval(_inverse(high), _inverse(low))

        low, high = estimate.bounds
        return replace(
            estimate,
            value=_inverse(estimate.value),
            bounds=Interval(_inverse(high), _inverse(low)),
            bounds_of=bounds_of,
        )

    return _Pair("Throughput", inverse(before), inverse(now), lambda value: f"{_inverse(value):.4g} requests/s")


def _inverse(value: float) -> float:
    return 1 / value if value else inf


def _error_rate(before: Estimate, now: Estimate) -> _Pair:
    """Return the error rates. They are close if the failure of every request would have been found."""
    is_enough = min(before.count, now.count) >= MIN_REQUESTS
    metric = METRICS[MetricName.ERROR_RATE]
    return _Pair(metric.name.value, before, now, metric.format, is_needed=True, is_close=is_enough)


def _has_regressed(before: Interval, now: Interval, allowed: float) -> bool:
    return now.low > before.high * (1 + allowed)


def _is_close(pair: _Pair, before: Interval, now: Interval) -> bool:
    """Return whether a value of FOUND_FACTOR times the limit would have been found with these bounds."""
    if pair.is_close is not None:
        return pair.is_close
    if not pair.before.value or before.high == inf or not now.low:
        return False
    return (before.high / pair.before.value) * (pair.now.value / now.low) <= FOUND_FACTOR


def _result(pair: _Pair, allowed: float) -> RegressionResult:
    was, seen = pair.before.value, pair.now.value
    has_regressed = pair.has_regressed(allowed)
    is_within = seen <= was * (1 + allowed)
    is_judged = has_regressed or (is_within and was < inf and _is_close(pair, pair.before.bounds, pair.now.bounds))
    change = _change(was, seen)
    message = ""
    if has_regressed:
        worse = "" if change >= _MAX_CHANGE else f", which is {100 * change:.3g}% worse"
        message = f"{_both(pair)}{worse} (allowed: {100 * allowed:.3g}%)"
    is_known = is_judged or pair.is_delayed(allowed)
    needed = 0 if is_known else _needed(pair, None if is_within else allowed)
    return RegressionResult(
        pair.name, pair.show(was), pair.show(seen), change, has_regressed, message, is_judged, needed
    )


def _both(pair: _Pair) -> str:
    return f"{pair.name} was {pair.show(pair.now.value)}, and {pair.show(pair.before.value)} in the baseline"


def _needed(pair: _Pair, allowed: float | None) -> int:
    """Return about how many requests of the same distributions would tell, in each run, or 0 if no number would.

    They would show a regression of more than `allowed`, or be close enough if it is None.
    """
    count = max(MIN_REQUESTS, min(pair.before.count, pair.now.count))
    if pair.is_close is not None and allowed is None:
        return MIN_REQUESTS
    while count < _MAX_NEEDED:
        before, now = pair.before.bounds_of(count), pair.now.bounds_of(count)
        if _is_close(pair, before, now) if allowed is None else _has_regressed(before, now, allowed):
            return _rounded(count)
        count = ceil(count * _GROWTH)
    return 0


def _rounded(count: int) -> int:
    """Return a number of requests with two significant digits, rounded up."""
    unit = int(10 ** max(0, floor(log10(count)) - 1))
    return ceil(count / unit) * unit


def _too_few(pairs: list[_Pair], measurements: Measurements, baseline: Measurements) -> Iterator[str]:
    """Yield a sentence if a comparison that a verdict needs is not close enough."""
    few = [pair for pair in pairs if pair.is_needed and not _is_close(pair, pair.before.bounds, pair.now.bounds)]
    if not few:
        return
    needed = max(_needed(pair, None) for pair in few)
    names = listed([pair.name for pair in few])
    counts = f"{measurements.whole.requests} in this run and {baseline.whole.requests} in the baseline"
    about = f"about {needed:,} requests" if needed else "more requests"
    worth = ""
    if any(one.independent < one.count for pair in few for one in (pair.now, pair.before)):
        now, before = (min(getattr(pair, run).independent for pair in few) for run in ("now", "before"))
        worth = f"; they depend on each other, so they count as {now} and {before}"
    yield f"a comparison of {names} with the baseline needs {about} in each run, and there were {counts}{worth}"


def _change(before: float, now: float) -> float:
    """Return the relative growth of a value, bounded for JSON."""
    if before == now:
        return 0.0
    if not before or now == inf:
        return _MAX_CHANGE
    return min(_MAX_CHANGE, now / before - 1)
