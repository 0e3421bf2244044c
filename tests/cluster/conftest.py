"""Fixtures of the cluster tests. `support/on_cluster/cluster.py` documents their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.on_cluster.cluster import assistant, chart, parameters

__all__ = ["assistant", "chart", "parameters"]

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests in this folder that have no marker of a cluster, which `make test` would run. Order the others.

    The tests without the chart come first, because one of them installs the operator in another way.
    """
    items.sort(key=lambda item: "chart" in getattr(item, "fixturenames", ()) and item.path.is_relative_to(_FOLDER))
    for item in items:
        is_marked = any(item.get_closest_marker(name) for name in ("cluster", "keda"))
        if item.path.is_relative_to(_FOLDER) and not is_marked:
            raise pytest.UsageError(f"{item.nodeid}: mark it with cluster or keda")
