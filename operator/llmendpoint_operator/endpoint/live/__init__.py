"""What exists of an endpoint in the cluster: its children, its pods, and what its sidecars report."""
