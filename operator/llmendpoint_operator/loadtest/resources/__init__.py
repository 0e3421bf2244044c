"""Builders of the children of a LoadTest: run document, questions, result, permissions and Job. No side effects."""
