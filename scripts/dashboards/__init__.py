"""Source of the Grafana dashboards: one module per dashboard, built with Grafana's own types.

`make generate` writes them as JSON to charts/llmendpoint/files/dashboards, from which the chart makes ConfigMaps.
"""

from __future__ import annotations

import json

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.endpoint import endpoint
from dashboards.load_tests import load_tests
from dashboards.operator_itself import operator_itself
from dashboards.overview import overview
from dashboards.tenants import tenants

__all__ = ["DASHBOARDS", "text_of"]

#: The dashboards by the name of their file.
DASHBOARDS = {
    "overview": overview,
    "endpoint": endpoint,
    "tenants": tenants,
    "load-tests": load_tests,
    "operator": operator_itself,
}


def text_of(dashboard: Dashboard) -> str:
    """Return a dashboard as JSON. Panels are numbered, because Grafana numbers them anew at each import otherwise."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
