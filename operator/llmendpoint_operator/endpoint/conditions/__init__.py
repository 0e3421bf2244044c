"""Conditions of an endpoint, one module per condition type: pure functions of the spec and the observation.

Each function returns a Condition, or None if the condition does not apply to the endpoint. `docs/conditions.md`
documents every reason. Readers see a message without its context, so it names the object and gives advice.
"""
