"""A simulated Ollama. It has Ollama's API, known timings, and a ledger of the served tokens.

The demo uses it if no Ollama answers, the benchmark uses it as upstream, and tests compare the meter with its ledger.
"""
