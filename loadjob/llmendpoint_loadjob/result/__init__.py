"""From timings to histograms, a summary and a verdict."""
