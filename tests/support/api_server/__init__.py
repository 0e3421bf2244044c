"""Parts of tests on a real API server: the server, requests, proxies with faults, and the parts that other controllers play."""
