"""The parts of an endpoint's pod: pure functions of the spec and the images that return fields of the pod."""
