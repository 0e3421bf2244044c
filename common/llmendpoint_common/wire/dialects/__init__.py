"""Readers for the responses of each API, one module per API: content, tokens, durations, errors and the end."""
