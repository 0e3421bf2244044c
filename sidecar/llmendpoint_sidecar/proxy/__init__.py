"""The data path: asyncio protocols that carry bytes between clients and Ollama. The meter never delays them."""
