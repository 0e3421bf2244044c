"""Commands of `llmendpoint`, one module per command."""
