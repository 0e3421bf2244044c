"""Parts of tests with programs on this machine: stacks, a real Ollama and its models, client libraries."""
