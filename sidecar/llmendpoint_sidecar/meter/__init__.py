"""What is counted: exchanges in, Prometheus families out. Nothing here can change or delay a byte of the stream."""
