"""What is wrong with an endpoint or a machine, why, and the command that mends it.

Facts are gathered by the programs; the rules here turn them into findings, so that conditions, the command line and the
dashboard use the same words.
"""
