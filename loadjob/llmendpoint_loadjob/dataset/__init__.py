"""Questions to ask."""
