"""Manifests in files on one machine: the source lines of fields, and the fields of an LLMEndpoint that apply."""
