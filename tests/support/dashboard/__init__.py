"""Parts of tests of the dashboard: servers, states, browsers."""
