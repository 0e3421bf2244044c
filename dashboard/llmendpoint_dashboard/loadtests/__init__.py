"""Load tests: starting and stopping runs on this machine, comparing runs, and manifests for a cluster."""
