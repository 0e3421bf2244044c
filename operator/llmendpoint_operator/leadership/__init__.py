"""Decides which operator process writes to which namespaces."""
