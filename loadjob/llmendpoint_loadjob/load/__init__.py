"""The load: the schedule of the requests, and the run that sends them."""
