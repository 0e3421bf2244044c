"""Pure translation of a spec into what the processes read: configuration files, arguments and environment.

The operator puts the results into manifests; on a machine without a cluster they start plain processes. File paths and
addresses are parameters, since a pod and a machine have different ones.
"""
