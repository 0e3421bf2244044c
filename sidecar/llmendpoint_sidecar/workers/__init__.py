"""Several processes on one port. Each worker carries requests and counts them. The supervisor sums their metrics."""
