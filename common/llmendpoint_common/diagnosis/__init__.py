"""Diagnosis of endpoints and machines: facts, and rules that turn them into findings with a cause and a command.

Conditions, the command line and the dashboard share the rules, and therefore their sentences.
"""
