"""Fixtures of the cluster tests. `support/cluster.py` documents their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cluster import assistant, chart, parameters

__all__ = ["assistant", "chart", "parameters"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests in this folder that have no marker of a cluster. `make test` would run them."""
    for item in items:
        is_marked = any(item.get_closest_marker(name) for name in ("cluster", "keda"))
        if item.path.is_relative_to(Path(__file__).parent) and not is_marked:
            raise pytest.UsageError(f"{item.nodeid}: mark it with cluster or keda")
