"""The operator: watches LLMEndpoint and LoadTest, and makes the cluster be what they say."""
