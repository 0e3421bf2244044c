"""Manifests of Kubernetes objects as files of one machine: their source lines, and what of an LLMEndpoint applies."""
