"""LoadTest: its spec, its Job and access, its results and its status."""
