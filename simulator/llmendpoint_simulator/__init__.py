"""Ollama's API with known timings and a ledger of what was served: the demo's default, and the truth of the tests."""
