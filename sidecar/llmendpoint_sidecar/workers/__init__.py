"""Several processes on one port. Each worker carries requests and counts them; the parent sums the counts."""
