"""What people and programs see of a run: the terminal and the files."""
