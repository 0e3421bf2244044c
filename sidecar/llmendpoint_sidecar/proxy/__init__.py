"""The data path: asyncio protocols that forward bytes between clients and Ollama. The meter never delays them."""
