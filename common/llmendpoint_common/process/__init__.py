"""The process contract that every llmendpoint process keeps: flags, logs and signals.

It exists so that five programs read their settings, write their logs and stop in one way. It knows nothing of
Ollama, metering or Kubernetes, and imports none of the other packages.
"""
