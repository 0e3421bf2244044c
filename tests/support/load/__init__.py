"""Parts of tests of the load generator: servers with known times, clients, runs and their reports."""
