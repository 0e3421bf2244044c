"""The doctor: gathers facts about this machine or a cluster, and shows what the rules find in them."""
