"""Sources of the state: each one watches or polls something, and writes sections and rows into the hub."""
