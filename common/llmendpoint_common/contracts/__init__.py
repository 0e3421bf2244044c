"""Names and message types that several components share.

A change here breaks the components that have another version, so names are added and never removed.
"""
