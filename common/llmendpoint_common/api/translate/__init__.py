"""Pure translation of a spec into the inputs of the processes: configuration files, arguments and environment.

The operator puts the results into manifests. Without a cluster, the results can start plain processes. File paths and
addresses are parameters, because they differ between a pod and a machine.
"""
