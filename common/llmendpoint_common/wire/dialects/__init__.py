"""Readers for the answers of each API, one module per API: content, tokens, durations, errors and the end."""
