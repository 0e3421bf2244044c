"""Selectors and expressions that several dashboards use."""

from __future__ import annotations

#: The chosen endpoints. Sidecars and the operator have these labels.
CHOSEN = 'namespace=~"$namespace", llmendpoint=~"$llmendpoint"'
#: The chosen models of the chosen endpoints.
MODELS = f'{CHOSEN}, model_name=~"$model"'
#: The chosen tenants of the chosen endpoints.
TENANTS = f'{CHOSEN}, tenant=~"$tenant"'
BY_ENDPOINT = "namespace, llmendpoint"
ENDPOINT = "{{namespace}}/{{llmendpoint}}"


def rate(metric: str, selector: str, by: str = "") -> str:
    """Return the sum of the rates of a counter per second."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(share: float, metric: str, selector: str, by: str = "") -> str:
    """Return a quantile of a histogram. `metric` is the name without `_bucket`."""
    group = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({group}) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))"


def or_zero(expr: str) -> str:
    """Return an expression that is 0 if there is no series, such as that of a counter that never counted."""
    return f"{expr} or on () vector(0)"
