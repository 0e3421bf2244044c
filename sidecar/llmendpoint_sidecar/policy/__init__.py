"""Decides which requests may pass: API keys, limits per tenant, the bounded queue, and how a refusal is answered."""
