"""Process contract of all programs: flags, logs, signals, sockets, errors and exit codes.

All programs read their settings, write their logs and stop in the same way. This package does not depend on Ollama,
metering or Kubernetes.
"""
