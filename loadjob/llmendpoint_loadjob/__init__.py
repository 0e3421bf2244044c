"""The load generator: questions in, timings out, and a verdict that says when it may not be trusted."""
