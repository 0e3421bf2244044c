"""The meter: turns exchanges into Prometheus metrics and records. It can neither change nor delay a byte."""
