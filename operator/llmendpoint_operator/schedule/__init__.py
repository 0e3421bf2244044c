"""The controller of LoadTestSchedules, the load tests that it creates, and its status."""
