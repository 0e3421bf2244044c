"""Generates docs/reference from the code: resources, metrics, options of programs, and values of the chart."""
