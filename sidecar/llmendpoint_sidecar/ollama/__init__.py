"""Calls to Ollama: a client for its API, and a watch that polls its state."""
