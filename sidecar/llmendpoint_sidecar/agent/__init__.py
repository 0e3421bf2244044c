"""Model agent: pulls the declared models, keeps the preloaded ones in memory, and reports its progress.

It calls Ollama directly and not through the proxy, so its requests are never counted as a client's.
"""
