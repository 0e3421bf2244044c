"""Bytes in, events out: HTTP heads, NDJSON, SSE and the dialects of Ollama's streams.

Nothing here has a clock or does I/O, so the proxy and the load generator share one definition of what a token
is, and tests can feed any split of any bytes.
"""
