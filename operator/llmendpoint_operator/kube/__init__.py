"""Pure helpers for Kubernetes objects: owners, labels, conditions and pod security. They use no client and no clock."""
