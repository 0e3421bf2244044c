"""The parts of a PodSpec that `spec.podTemplate` supports, and why it refuses the others."""
