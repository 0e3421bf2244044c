"""The resource LoadTest: `spec` has the whole, and the other modules its fields and its status."""
