"""The data path: asyncio protocols that carry bytes between a client and Ollama, and never wait for the meter."""
