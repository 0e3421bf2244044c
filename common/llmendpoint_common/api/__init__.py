"""The resources as typed models: the source of the CRDs, and what the operator and the command line read."""
