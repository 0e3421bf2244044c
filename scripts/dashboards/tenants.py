"""The dashboard of tenants and costs. Costs need the chart's value gpuHourlyPrices."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.expressions import BY_ENDPOINT, CHOSEN, ENDPOINT, TENANTS, or_zero, rate
from dashboards.parts import About, Query, Section, choice, dashboard, endpoint_choices, graph, number, rows

_COST = f"sum_over_time(llmendpoint:gpu_cost_per_hour:sum{{{CHOSEN}}}[$__range:1m]) / 60"
_REQUESTS = "llmendpoint_requests_total"


def _tokens(selector: str, by: str) -> str:
    """Return the prompt tokens and generated tokens in the chosen time."""
    prompt, generated = (f"llmendpoint_{kind}_tokens_total" for kind in ("prompt", "generation"))
    return (
        f"sum by ({by}) ("
        f'label_replace(increase({prompt}{{{selector}}}[$__range]), "kind", "prompt", "", "") or '
        f'label_replace(increase({generated}{{{selector}}}[$__range]), "kind", "generation", "", ""))'
    )


def _cost_of_tenants() -> str:
    """Return the cost of each endpoint, divided between its tenants in proportion to their tokens."""
    join = f"on ({BY_ENDPOINT}) group_left ()"
    share = f"{_tokens(TENANTS, f'{BY_ENDPOINT}, tenant')} / {join} ({_tokens(CHOSEN, BY_ENDPOINT)} > 0)"
    return f"sum by (tenant) ({share} * {join} ({_COST}))"


def _per_tenant(metric: str, selector: str = TENANTS) -> str:
    return f"sum by (tenant) (increase({metric}{{{selector}}}[$__range]))"


def _totals() -> Section:
    return Section(
        "In the chosen time",
        (
            number(
                About(
                    "Cost",
                    "GPUs times their prices, in the currency of gpuHourlyPrices. Time without requests is included.",
                    "none",
                    6,
                ),
                f"sum({_COST})",
            ),
            number(
                About("Cost of a million tokens", "The cost divided by prompt tokens and generated tokens.", "none", 6),
                f"1e6 * sum({_COST}) / (sum({_tokens(CHOSEN, BY_ENDPOINT)}) > 0)",
            ),
            number(
                About("Tokens", "Prompt tokens and generated tokens.", width=6), f"sum({_tokens(CHOSEN, BY_ENDPOINT)})"
            ),
            number(
                About("GPU hours", "Hours for which pods occupied GPUs, times the number of GPUs.", "none", 6),
                "sum(sum_over_time((max by (namespace, llmendpoint, resource, product) "
                f"(llmendpoint_gpus{{{CHOSEN}}}))[$__range:1m])) / 60",
            ),
        ),
    )


def _tables() -> Section:
    refused = f'{TENANTS}, outcome=~"rejected_.+"'
    return Section(
        "Tenants",
        (
            rows(
                About(
                    "Tenants",
                    "Each tenant in the chosen time. The cost of an endpoint is divided in proportion "
                    "to tokens; prompt tokens count as much as generated ones.",
                    width=12,
                ),
                {
                    "Requests": _per_tenant(_REQUESTS),
                    "Prompt tokens": _per_tenant("llmendpoint_prompt_tokens_total"),
                    "Generated tokens": _per_tenant("llmendpoint_generation_tokens_total"),
                    "Cost": _cost_of_tenants(),
                },
            ),
            rows(
                About("Endpoints", "Each endpoint in the chosen time.", width=12),
                {
                    "Cost": f"sum by ({BY_ENDPOINT}) ({_COST})",
                    "Tokens": _tokens(CHOSEN, BY_ENDPOINT),
                    "Cost of a million tokens": f"1e6 * sum by ({BY_ENDPOINT}) ({_COST}) "
                    f"/ ({_tokens(CHOSEN, BY_ENDPOINT)} > 0)",
                },
            ),
            graph(
                About("Tokens", "Prompt tokens and generated tokens per second, by tenant."),
                Query(f"{rate('llmendpoint_prompt_tokens_total', TENANTS, 'tenant')}", "{{tenant}} prompt"),
                Query(f"{rate('llmendpoint_generation_tokens_total', TENANTS, 'tenant')}", "{{tenant}} generated"),
                stacked=True,
            ),
            graph(
                About("Requests", "Requests per second, by tenant.", "reqps"),
                Query(rate(_REQUESTS, TENANTS, "tenant"), "{{tenant}}"),
                stacked=True,
            ),
            graph(
                About("Refused requests", "Requests that keys, limits or the queue refused, per second.", "reqps"),
                Query(or_zero(rate(_REQUESTS, refused, "tenant, outcome")), "{{tenant}} {{outcome}}"),
            ),
        ),
    )


def _costs() -> Section:
    return Section(
        "Costs",
        (
            graph(
                About("Cost per hour", "GPUs that pods occupy, times their prices.", "none"),
                Query(f"llmendpoint:gpu_cost_per_hour:sum{{{CHOSEN}}}", ENDPOINT),
                stacked=True,
            ),
            graph(
                About("Cost of a million tokens", "The cost of the hour before, divided by its tokens.", "none"),
                Query(f"llmendpoint:gpu_cost_per_million_tokens:ratio1h{{{CHOSEN}}}", ENDPOINT),
            ),
            graph(
                About(
                    "Cost per hour by tenant", "The cost of the hour before, in proportion to the tokens in it.", "none"
                ),
                Query(f"sum by (tenant) (llmendpoint_tenant:gpu_cost:sum1h{{{TENANTS}}})", "{{tenant}}"),
                stacked=True,
            ),
        ),
    )


def tenants() -> Dashboard:
    """Return the dashboard."""
    tenant = choice("tenant", f"label_values(llmendpoint_requests_total{{{CHOSEN}}}, tenant)")
    return dashboard(
        "tenants",
        "Tenants and costs",
        "What tenants use, and what it costs. Costs need the chart's value gpuHourlyPrices.",
        [*endpoint_choices(), tenant],
        (_totals(), _tables(), _costs()),
    )
