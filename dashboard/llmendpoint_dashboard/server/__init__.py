"""HTTP server of the dashboard: pages, state, events, and authentication."""
