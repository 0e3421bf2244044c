"""HTTP/1.1 on the wire: heads and chunked bodies (RFC 9110, RFC 9112)."""
