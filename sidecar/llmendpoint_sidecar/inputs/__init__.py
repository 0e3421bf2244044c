"""Files that the sidecar reads while it runs: the configuration, the API keys and the TLS certificate."""
