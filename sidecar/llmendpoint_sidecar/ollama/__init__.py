"""Calls to Ollama: a client for its API, and a poller of its state."""
