"""HTTP/1.1 (RFC 9110, RFC 9112): readers of requests and responses, heads, and chunked framing."""
