"""Typed models of the resources, their defaults, and the translation of a spec into the inputs of processes."""
