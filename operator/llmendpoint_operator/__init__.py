"""The operator: watches LLMEndpoints and LoadTests, and creates, updates and deletes the objects that they require."""
