"""The controller of LLMEndpoints, their children, observations, conditions and status."""
