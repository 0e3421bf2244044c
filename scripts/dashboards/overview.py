"""The dashboard of all endpoints: which of them serve, how much they do, and which alerts fire."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.expressions import BY_ENDPOINT, CHOSEN, ENDPOINT, quantile, rate
from dashboards.parts import About, Query, Section, dashboard, endpoint_choices, graph, number, rows

_TTFT = "llmendpoint_time_to_first_token_seconds"


def _condition(kind: str, status: str) -> str:
    """Return the endpoints that have a condition, as series with the value 1."""
    selector = f'{CHOSEN}, type="{kind}", status="{status}"'
    return f"max by ({BY_ENDPOINT}) (llmendpoint_condition{{{selector}}})"


def _of_operator(metric: str) -> str:
    return f"max by ({BY_ENDPOINT}) ({metric}{{{CHOSEN}}})"


def _now() -> Section:
    return Section(
        "Now",
        (
            number(
                About("Endpoints", "LLMEndpoints that exist.", width=4), f"count({_of_operator('llmendpoint_info')})"
            ),
            number(
                About("Ready", "LLMEndpoints with at least one replica that serves.", width=4),
                f"sum({_condition('Ready', 'True')})",
                {None: "red", 1: "green"},
            ),
            number(
                About("Stalled", "LLMEndpoints that wait for a person.", width=4),
                f"sum({_condition('Stalled', 'True')})",
                {None: "green", 1: "red"},
            ),
            number(
                About("GPUs", "GPUs that pods of endpoints occupy.", width=4),
                f"sum(max by (namespace, llmendpoint, resource, product) (llmendpoint_gpus{{{CHOSEN}}})) or vector(0)",
            ),
            number(
                About("Requests", "Requests to models per second.", "reqps", 4),
                f"sum(llmendpoint:requests:rate5m{{{CHOSEN}}})",
            ),
            number(
                About("Generated tokens", "Generated tokens per second.", width=4),
                f"sum(llmendpoint:generation_tokens:rate5m{{{CHOSEN}}})",
            ),
        ),
    )


def _table() -> Section:
    return Section(
        "Endpoints",
        (
            rows(
                About(
                    "Endpoints",
                    "The state of each endpoint. Utilization above 100 % means that requests wait.",
                    width=16,
                ),
                {
                    "Ready": _condition("Ready", "True"),
                    "Replicas": _of_operator("llmendpoint_status_replicas"),
                    "Ready replicas": _of_operator("llmendpoint_status_replicas_ready"),
                    "Utilization": f"llmendpoint:utilization:ratio{{{CHOSEN}}}",
                    "Requests/s": f"llmendpoint:requests:rate5m{{{CHOSEN}}}",
                    "Tokens/s": f"llmendpoint:generation_tokens:rate5m{{{CHOSEN}}}",
                },
                units={"Utilization": "percentunit"},
            ),
            rows(
                About("Firing alerts", "Alerts of endpoints and of the operator that fire now.", width=8),
                {
                    "Firing": "count by (alertname, severity, namespace, llmendpoint) "
                    '(ALERTS{alertname=~"LLMEndpoint.+", alertstate="firing"})'
                },
            ),
        ),
    )


def _load() -> Section:
    return Section(
        "Load",
        (
            graph(
                About("Requests", "Requests to models per second.", "reqps"),
                Query(f"llmendpoint:requests:rate5m{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Utilization", "Requests in flight divided by slots. Above 100 %, requests wait.", "percentunit"),
                Query(f"llmendpoint:utilization:ratio{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Waiting requests", "Requests that wait for a slot of Ollama."),
                Query(f"llmendpoint:requests_waiting:sum{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Time to first token, 95th percentile", "From the arrival of a request to its first token.", "s"),
                Query(quantile(0.95, _TTFT, CHOSEN, BY_ENDPOINT), ENDPOINT),
            ),
            graph(
                About("Errors", "Share of the requests that failed without a fault of the client.", "percentunit"),
                Query(f"llmendpoint:request_errors:ratio_rate5m{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About("Generated tokens", "Generated tokens per second.", "short"),
                Query(rate("llmendpoint_generation_tokens_total", CHOSEN, BY_ENDPOINT), ENDPOINT),
            ),
        ),
    )


def overview() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "overview",
        "Overview",
        "All LLMEndpoints: which of them serve, their load, and the alerts that fire.",
        endpoint_choices(),
        (_now(), _table(), _load()),
    )
