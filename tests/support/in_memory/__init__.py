"""Clusters, controllers and observations in memory, most of them in virtual time, for tests without an API server."""
