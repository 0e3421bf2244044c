"""Measurements of a run, and their evaluation: histograms, summary and verdict."""
