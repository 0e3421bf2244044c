"""Specs, schemas, rendered charts and documentation as tests read them."""
