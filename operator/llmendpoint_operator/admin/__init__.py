"""The operator's HTTP port: probes and metrics."""
