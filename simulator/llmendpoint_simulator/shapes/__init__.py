"""Formats of the answers of each API, streamed and not streamed. Each shape follows Ollama 0.17.4."""
