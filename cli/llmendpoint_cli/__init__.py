"""The `llmendpoint` command: the whole thing on one machine, without a cluster."""
