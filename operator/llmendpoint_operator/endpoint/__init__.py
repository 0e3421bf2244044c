"""LLMEndpoint: its spec, its children, what is seen of them, and its status."""
