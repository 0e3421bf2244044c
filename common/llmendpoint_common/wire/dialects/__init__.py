"""One module a family of APIs: what a piece of its response says about tokens, durations and the end."""
