"""The meter: turns exchanges into Prometheus metrics and records. It never changes or delays bytes."""
