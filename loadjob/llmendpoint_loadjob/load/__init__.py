"""The load: the times at which requests are due, and the run that sends them."""
