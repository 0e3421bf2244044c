"""The HTTP client of the load generator, and the requests that it sends."""
