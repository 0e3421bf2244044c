"""The measuring HTTP client, and the requests that it sends."""
