"""Pure helpers for Kubernetes objects: owners, labels, conditions and pod security. No client, no clock."""
