"""Fixtures of the cluster tests. `support/cluster.py` documents their parameters."""

from support.cluster import assistant, chart, parameters

__all__ = ["assistant", "chart", "parameters"]
