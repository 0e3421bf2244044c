"""The model agent: brings the declared models, keeps the preloaded ones in memory, and says how far it is.

It speaks to Ollama beside the data path, so what it does is never counted as a client's request.
"""
