"""Everything that talks to the cluster: the client, the inventory of what exists, faults, Events, and pods' status."""
