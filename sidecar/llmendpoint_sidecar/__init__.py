"""Metering proxy in front of one Ollama, exporter of its metrics, and model agent that pulls and loads models."""
