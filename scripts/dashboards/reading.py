"""Panels and queries of a dashboard that is JSON, with variables replaced as Grafana replaces them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Grafana's own variables, for a dashboard of five minutes and a Prometheus that scrapes every 15 s.
_OWN = {"$__rate_interval": "1m", "$__range": "5m"}
_VARIABLES = ("namespace", "llmendpoint", "model", "tenant", "loadtest")


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels without rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title of a panel with each of its queries."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def substituted(expr: str, values: Mapping[str, str]) -> str:
    """Return a query with the values of variables. A variable without a value matches everything."""
    for name, value in _OWN.items():
        expr = expr.replace(name, value)
    for name in _VARIABLES:
        expr = expr.replace(f'"${name}"', f'"{values.get(name, ".*")}"')
    return expr
