"""The web dashboard: one page over the sidecars of a machine or a cluster.

It reads the sidecars, Prometheus, the Kubernetes API and the folder of load test results, keeps the current state in
memory, and pushes changes to browsers with server-sent events. It stores nothing.
"""
