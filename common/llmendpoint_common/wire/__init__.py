"""Wire formats: HTTP/1.1, NDJSON, server-sent events, request bodies, routes, and readers for responses.

The input is bytes, and the output is typed values. Nothing here uses a clock or does I/O. Therefore the proxy and the
load generator read responses by the same rules, and tests can feed bytes in any split.
"""
