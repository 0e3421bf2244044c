"""The dashboard of the operator: who serves, how fast it reconciles, its requests, and its process."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.expressions import or_zero, quantile, rate
from dashboards.parts import About, Query, Section, dashboard, graph, number, states

_PREFIX = "llmendpoint_operator_"


def _of_process(metric: str) -> str:
    """Return a metric of the processes of operators. All programs have metrics with these names."""
    return f"max by (namespace, pod) ({metric}) and on (namespace, pod) max by (namespace, pod) ({_PREFIX}leader)"


def _serving() -> Section:
    return Section(
        "Serving",
        (
            number(
                About("Processes that serve", "One per scope: the cluster, or each namespace.", width=4),
                f"sum({_PREFIX}leader)",
                {None: "red", 1: "green"},
            ),
            number(
                About("Watch problems", "Kinds and namespaces that cannot be watched.", width=4),
                f"sum({_PREFIX}watch_problems)",
                {None: "green", 1: "red"},
            ),
            number(
                About("Conflicts", "Scopes that another installation serves.", width=4),
                or_zero(f"count({_PREFIX}scope_conflict == 1)"),
                {None: "green", 1: "yellow"},
            ),
            number(
                About("Waiting resources", "Resources that wait to be reconciled.", width=4),
                f"sum({_PREFIX}queue_depth)",
            ),
            number(
                About("Endpoints", "LLMEndpoints that exist.", width=4),
                or_zero("count(max by (namespace, llmendpoint) (llmendpoint_info))"),
            ),
            number(
                About("Load tests", "LoadTests that exist.", width=4),
                or_zero("count(max by (namespace, loadtest) (llmendpoint_loadtest_info))"),
            ),
            states(
                About("Leaders", "Which process serves which scope.", width=12),
                Query(f"max by (pod, scope) ({_PREFIX}leader)", "{{pod}} {{scope}}"),
            ),
            graph(
                About(
                    "Age of the canary",
                    "Time for which renewals of the Lease did not arrive through the watch.",
                    "s",
                    12,
                ),
                Query(f"max by (pod) ({_PREFIX}canary_age_seconds)", "{{pod}}"),
            ),
        ),
    )


def _reconciles() -> Section:
    return Section(
        "Reconciles",
        (
            graph(
                About("Reconciles", "Reconciles per second, by kind and result.", "ops"),
                Query(rate(f"{_PREFIX}reconciles_total", "", "kind, result"), "{{kind}} {{result}}"),
                stacked=True,
            ),
            graph(
                About("Time of a reconcile, 95th percentile", "How long a reconcile takes.", "s"),
                Query(quantile(0.95, f"{_PREFIX}reconcile_duration_seconds", "", "kind"), "{{kind}}"),
            ),
            graph(
                About("Time until a reconcile, 99th percentile", "From the event until its reconcile begins.", "s"),
                Query(quantile(0.99, f"{_PREFIX}queue_latency_seconds", "", "kind"), "{{kind}}"),
            ),
            graph(
                About("Queue", "Resources that wait, and those that are being reconciled.", width=12),
                Query(f"sum({_PREFIX}queue_depth)", "waiting"),
                Query(f"sum({_PREFIX}active_reconciles)", "active"),
            ),
            graph(
                About("Failed reconciles", "Reconciles that failed and are retried, per second.", "ops", 12),
                Query(or_zero(rate(f"{_PREFIX}reconcile_errors_total", "")), "failed"),
            ),
        ),
    )


def _process() -> Section:
    return Section(
        "Requests and process",
        (
            graph(
                About("Requests to the API server", "Requests per second, by verb and resource.", "reqps"),
                Query(rate(f"{_PREFIX}api_requests_total", "", "verb, resource"), "{{verb}} {{resource}}"),
                stacked=True,
            ),
            graph(
                About("Requests by status code", "Requests per second; <error> if there was no response.", "reqps"),
                Query(rate(f"{_PREFIX}api_requests_total", "", "code"), "{{code}}"),
                stacked=True,
            ),
            graph(
                About("Memory", "Resident memory of the processes.", "bytes", 4),
                Query(_of_process("process_resident_memory_bytes"), "{{pod}}"),
            ),
            graph(
                About("CPU", "CPU time per second of the processes.", "short", 4),
                Query(_of_process("rate(process_cpu_seconds_total[$__rate_interval])"), "{{pod}}"),
            ),
        ),
    )


def operator_itself() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "operator",
        "Operator",
        "The operator: who serves, how fast it reconciles, its requests to the API server, and its process.",
        [],
        (_serving(), _reconciles(), _process()),
    )
