"""Calls to the Ollama server: a client for its API, and a watch that polls its state."""
