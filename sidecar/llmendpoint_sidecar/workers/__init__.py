"""Several processes on one port: each carries traffic and counts; their parent adds up, and owns the side door."""
