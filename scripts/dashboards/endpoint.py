"""The dashboard of one endpoint: its state, traffic, latencies, tokens, models, and Ollama."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.expressions import CHOSEN, MODELS, or_zero, quantile, rate
from dashboards.parts import About, Query, Section, choice, dashboard, endpoint_choices, graph, states

_REQUESTS = "llmendpoint_requests_total"
_SHARES = {0.5: "p50", 0.95: "p95", 0.99: "p99"}


def _quantiles(metric: str) -> list[Query]:
    return [Query(quantile(share, f"llmendpoint_{metric}", MODELS), legend) for share, legend in _SHARES.items()]


def _average(metric: str) -> str:
    name = f"llmendpoint_{metric}"
    return f"{rate(f'{name}_sum', MODELS)} / {rate(f'{name}_count', MODELS)}"


def _state() -> Section:
    conditions = f'max by (type) (llmendpoint_condition{{{CHOSEN}, status="True"}})'
    return Section(
        "State",
        (
            states(
                About(
                    "Conditions",
                    "Conditions that are True (green). Stalled, Degraded and Reconciling are better if they are not.",
                ),
                Query(conditions, "{{type}}"),
            ),
            graph(
                About("Replicas", "Replicas that exist, and those that serve."),
                Query(f"max(llmendpoint_status_replicas{{{CHOSEN}}})", "existing"),
                Query(f"max(llmendpoint_status_replicas_ready{{{CHOSEN}}})", "ready"),
            ),
            graph(
                About("Slots", "Requests that Ollama runs, requests that wait, and the number of slots."),
                Query(f"llmendpoint:requests_running:sum{{{CHOSEN}}}", "running"),
                Query(f"llmendpoint:requests_waiting:sum{{{CHOSEN}}}", "waiting"),
                Query(
                    f"max(llmendpoint_spec_num_parallel{{{CHOSEN}}}) * max(llmendpoint_status_replicas{{{CHOSEN}}})",
                    "slots",
                ),
            ),
        ),
    )


def _traffic() -> Section:
    return Section(
        "Traffic",
        (
            graph(
                About("Requests by outcome", "How requests ended. docs/metering.md explains the outcomes.", "reqps"),
                Query(rate(_REQUESTS, MODELS, "outcome"), "{{outcome}}"),
                stacked=True,
            ),
            graph(
                About("Requests by operation", "The routes that clients use.", "reqps"),
                Query(rate(_REQUESTS, MODELS, "operation"), "{{operation}}"),
                stacked=True,
            ),
            graph(
                About("Errors", "Share of the requests that failed without a fault of the client.", "percentunit"),
                Query(f"llmendpoint:request_errors:ratio_rate5m{{{CHOSEN}}}", "5 minutes"),
                Query(f"llmendpoint:request_errors:ratio_rate1h{{{CHOSEN}}}", "1 hour"),
            ),
            graph(
                About("Requests by replica", "Whether replicas have equal load.", "reqps"),
                Query(rate(_REQUESTS, MODELS, "pod"), "{{pod}}"),
            ),
            graph(
                About("Waiting requests by replica", "Requests that wait for a slot."),
                Query(f"max by (pod) (llmendpoint_num_requests_waiting{{{CHOSEN}}})", "{{pod}}"),
            ),
            graph(
                About("Requests without token counts", "Successful requests whose tokens are unknown.", "reqps"),
                Query(or_zero(rate("llmendpoint_unmetered_requests_total", CHOSEN)), "unmetered"),
            ),
        ),
    )


def _latency() -> Section:
    return Section(
        "Latency",
        (
            graph(
                About("Time to first token", "From the arrival of a request to its first token. Streams only.", "s"),
                *_quantiles("time_to_first_token_seconds"),
            ),
            graph(
                About("Time per output token", "Average time between the tokens of a request. Streams only.", "s"),
                *_quantiles("request_time_per_output_token_seconds"),
            ),
            graph(
                About("Time of a request", "From the arrival of a request to the end of its response.", "s"),
                *_quantiles("e2e_request_latency_seconds"),
            ),
            graph(
                About("Times of a request", "Average per request, as Ollama reports it (its own API only).", "s"),
                Query(_average("request_queue_time_seconds"), "queue"),
                Query(_average("model_load_seconds"), "load"),
                Query(_average("request_prefill_time_seconds"), "prefill"),
                Query(_average("request_decode_time_seconds"), "decode"),
                stacked=True,
            ),
            graph(
                About("Time between chunks", "Gaps in streams, as clients see them.", "s"),
                *_quantiles("inter_chunk_latency_seconds"),
            ),
            graph(
                About("Overhead of the proxy", "Time from the last byte received to the last byte forwarded.", "s"),
                *_quantiles("overhead_seconds"),
            ),
        ),
    )


def _tokens() -> Section:
    return Section(
        "Tokens",
        (
            graph(
                About("Generated tokens", "Generated tokens per second, by model."),
                Query(rate("llmendpoint_generation_tokens_total", MODELS, "model_name"), "{{model_name}}"),
                stacked=True,
            ),
            graph(
                About("Prompt tokens", "Prompt tokens per second, by model."),
                Query(rate("llmendpoint_prompt_tokens_total", MODELS, "model_name"), "{{model_name}}"),
                stacked=True,
            ),
            graph(
                About("Tokens of a request", "Median and 95th percentile of prompts and responses."),
                Query(quantile(0.5, "llmendpoint_request_prompt_tokens", MODELS), "prompt p50"),
                Query(quantile(0.95, "llmendpoint_request_prompt_tokens", MODELS), "prompt p95"),
                Query(quantile(0.5, "llmendpoint_request_generation_tokens", MODELS), "response p50"),
                Query(quantile(0.95, "llmendpoint_request_generation_tokens", MODELS), "response p95"),
            ),
        ),
    )


def _models() -> Section:
    return Section(
        "Models and Ollama",
        (
            states(
                About(
                    "Models in memory",
                    "Whether a model is in memory. A line that changes often is evicted often.",
                    width=12,
                ),
                Query(f"min by (model_name) (llmendpoint_model_loaded{{{MODELS}}})", "{{model_name}}"),
            ),
            graph(
                About("Memory of models", "Memory of loaded models, and the part of it on the GPU.", "bytes", 12),
                Query(f"max by (model_name) (llmendpoint_model_size_bytes{{{MODELS}}})", "{{model_name}}"),
                Query(f"max by (model_name) (llmendpoint_model_vram_bytes{{{MODELS}}})", "{{model_name}} on GPU"),
            ),
            graph(
                About("Pulled", "Progress of the pulls of declared models, on the slowest replica.", "percentunit"),
                Query(f"min by (model_name) (llmendpoint_model_pull_progress_ratio{{{MODELS}}})", "{{model_name}}"),
                top=1,
            ),
            states(
                About("Ollama answers", "Whether Ollama answers requests about itself, by replica."),
                Query(f"max by (pod) (llmendpoint_upstream_up{{{CHOSEN}}})", "{{pod}}"),
            ),
            graph(
                About("Hangs and restarts", "Times that Ollama was hung, and that the sidecar restarted it."),
                Query(f"sum(increase(llmendpoint_upstream_stalls_total{{{CHOSEN}}}[$__rate_interval]))", "hung"),
                Query(f"sum(increase(llmendpoint_upstream_restarts_total{{{CHOSEN}}}[$__rate_interval]))", "restarted"),
            ),
        ),
    )


def endpoint() -> Dashboard:
    """Return the dashboard."""
    model = choice("model", f"label_values(llmendpoint_model_loaded{{{CHOSEN}}}, model_name)")
    return dashboard(
        "endpoint",
        "Endpoint",
        "One LLMEndpoint: its state, traffic, latencies, tokens and models.",
        [*endpoint_choices(several=False), model],
        (_state(), _traffic(), _latency(), _tokens(), _models()),
    )
