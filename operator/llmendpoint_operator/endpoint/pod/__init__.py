"""The parts of an endpoint's pod. Pure: spec and settings in, fields of a pod out."""
