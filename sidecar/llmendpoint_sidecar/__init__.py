"""The metering proxy that stands in front of one Ollama, its exporter, and the agent that brings models."""
