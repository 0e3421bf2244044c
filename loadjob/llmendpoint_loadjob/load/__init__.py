"""The load: when requests are due, and the run that sends them."""
