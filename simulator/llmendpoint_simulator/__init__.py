"""Simulated Ollama: its API with known timings, and a ledger of the tokens that were served.

The demo uses it if no Ollama answers, the benchmark as upstream, and the tests compare the meter with its ledger.
"""
