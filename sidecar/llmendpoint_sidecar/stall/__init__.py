"""Notices a hung Ollama, tells clients and the operator, and requests its restart.

A hung Ollama answers requests about itself (`ollama list`), but no byte comes from a model. A healthy one can look the
same for minutes, so `detector` decides by rules that never blame a healthy one, and `watch` acts on its decision.
"""
