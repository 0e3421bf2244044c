"""The resources as typed models, their defaults, and the translation of a spec into what processes read."""
