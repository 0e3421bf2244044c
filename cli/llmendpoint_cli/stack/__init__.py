"""Processes of the local stack, and their ports."""
