"""Read-only access to a cluster: the kinds, a client of the API server, watches, and the translation into rows."""
