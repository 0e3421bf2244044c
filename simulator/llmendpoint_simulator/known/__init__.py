"""The known-latency mode: answers whose times are exact, and a ledger that says how exact they were."""
