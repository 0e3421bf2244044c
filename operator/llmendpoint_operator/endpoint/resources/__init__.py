"""Builders of an endpoint's children, one module per kind. Pure: owner, spec and settings in, a manifest out."""
