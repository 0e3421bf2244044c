"""HTTP server of the dashboard: pages, state, events, and who may use them."""
