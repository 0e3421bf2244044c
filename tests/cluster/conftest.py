"""Fixtures of the cluster tests; `cluster_fixtures.py` tells their parameters."""

from cluster_fixtures import assistant, chart, parameters

__all__ = ["assistant", "chart", "parameters"]
