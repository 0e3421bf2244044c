"""The commands of `llmendpoint`, one module each."""
