"""Reports of a run: on the terminal and in files."""
