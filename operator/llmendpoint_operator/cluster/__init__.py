"""Access to the cluster: API client, inventory of existing objects, faults, Events, and the status of pods."""
