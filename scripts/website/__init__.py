"""Turns the Markdown of the repository, which is written for GitHub, into the site of the documentation."""
