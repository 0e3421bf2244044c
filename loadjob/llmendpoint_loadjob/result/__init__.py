"""Measurements, and what follows from them: histograms, a summary and a verdict."""
