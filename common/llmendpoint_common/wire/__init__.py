"""Wire formats: HTTP/1.1, NDJSON, server-sent events, request bodies, routes, and readers for the answers of each API.

Bytes go in and typed values come out. Nothing here has a clock or does I/O, so the proxy and the load generator read
answers by the same rules, and tests can feed bytes in any split.
"""
