"""The operator's policy: the values that the creators of resources may use. It does not concern its own settings."""
