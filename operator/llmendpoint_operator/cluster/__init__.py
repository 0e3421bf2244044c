"""Where the operator touches the cluster: reads, server-side apply, prune, events, and the sidecars in pods."""
