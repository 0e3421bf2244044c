"""The resource LLMEndpoint: `spec` has the whole, and each other module one field of its spec, or its status."""
