"""The dashboard of load tests: their verdicts and results, and what their endpoints measured at the same time."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.expressions import CHOSEN, ENDPOINT, quantile
from dashboards.parts import About, Query, Section, choice, dashboard, endpoint_choices, graph, rows

#: Only llmendpoint_loadtest_info has the label `llmendpoint`. It is empty if the run is against another server.
_RUNS = 'namespace=~"$namespace", loadtest=~"$loadtest"'
_LABELS = "namespace, loadtest"
_RUN = "{{namespace}}/{{loadtest}}"
_PREFIX = "llmendpoint_loadtest_"


def _result(metric: str, more: str = "") -> str:
    return f"max by ({_LABELS}) ({_PREFIX}{metric}{{{_RUNS}{more}}})"


def _latency(metric: str, quantile_: str) -> str:
    return _result("latency_seconds", f', metric="{metric}", quantile="{quantile_}"')


def _results() -> Section:
    return Section(
        "Results",
        (
            rows(
                About("Verdicts", "The verdict of each run. It is empty while the run has not ended.", width=10),
                {"Runs": f"max by (namespace, loadtest, llmendpoint, verdict) ({_PREFIX}info{{{_RUNS}}})"},
            ),
            rows(
                About("Results", "The results of runs that have ended.", width=14),
                {
                    "Ended": f"1000 * {_result('completion_timestamp_seconds')}",
                    "Requests": _result("requests"),
                    "Errors": _result("errors"),
                    "Requests/s": _result("requests_per_second"),
                    "Output tokens": _result("output_tokens"),
                    "TTFT p95": _latency("TTFT", "0.95"),
                    "Latency p95": _latency("RequestLatency", "0.95"),
                },
                units={"Ended": "dateTimeAsIso", "TTFT p95": "s", "Latency p95": "s"},
            ),
        ),
    )


def _compared() -> Section:
    return Section(
        "Runs compared",
        (
            graph(
                About("Time to first token, 95th percentile", "As the load generator measured it.", "s"),
                Query(_latency("TTFT", "0.95"), _RUN),
            ),
            graph(
                About("Time per output token, 95th percentile", "As the load generator measured it.", "s"),
                Query(_latency("TPOT", "0.95"), _RUN),
            ),
            graph(
                About("Requests per second", "Successful requests per second of each run.", "reqps"),
                Query(_result("requests_per_second"), _RUN),
            ),
        ),
    )


def _during() -> Section:
    return Section(
        "During the runs",
        (
            graph(
                About("Progress", "How far each run is.", "percentunit"), Query(_result("progress_ratio"), _RUN), top=1
            ),
            graph(
                About("Requests to the endpoints", "Requests to models per second, from all clients.", "reqps"),
                Query(f"llmendpoint:requests:rate5m{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Utilization of the endpoints", "Requests in flight divided by slots.", "percentunit"),
                Query(f"llmendpoint:utilization:ratio{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Time to first token at the endpoints", "95th percentile, as the sidecars measured it.", "s", 12),
                Query(
                    quantile(0.95, "llmendpoint_time_to_first_token_seconds", CHOSEN, "namespace, llmendpoint"),
                    ENDPOINT,
                ),
            ),
            graph(
                About("Generated tokens of the endpoints", "Generated tokens per second.", "short", 12),
                Query(f"llmendpoint:generation_tokens:rate5m{{{CHOSEN}}}", ENDPOINT),
            ),
        ),
    )


def load_tests() -> Dashboard:
    """Return the dashboard."""
    loadtest = choice("loadtest", f'label_values({_PREFIX}info{{namespace=~"$namespace"}}, loadtest)')
    return dashboard(
        "load-tests",
        "Load tests",
        "LoadTests: verdicts and results, and what their endpoints measured at the same time.",
        [*endpoint_choices(), loadtest],
        (_results(), _compared(), _during()),
    )
