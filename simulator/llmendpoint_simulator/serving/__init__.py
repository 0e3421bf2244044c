"""HTTP/1.1 server of the simulator: listening sockets, connections, exchanges, and timers of the kernel."""
