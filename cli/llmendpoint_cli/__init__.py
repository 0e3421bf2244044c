"""The `llmendpoint` command: metering proxy, load tests and simulator on one machine, without a cluster."""
