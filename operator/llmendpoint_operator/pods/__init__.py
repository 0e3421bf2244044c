"""Why a pod does not run: one classifier for the pods of endpoints and load tests.

The scheduler and kubelet write what is wrong into the status of the pod. What happens before a pod exists, and what
kubelet does not write into the status (volumes, sandboxes), is only told by Warning Events. The texts are those of
Kubernetes 1.35.
"""
