"""PodDisruptionBudget of an endpoint: how many pods stay ready while others are evicted, and none while models load.

A pod that loads its models is not ready, and an eviction would throw away what it has done. The eviction API protects
a pod that is not ready only while fewer pods are ready than the budget demands. So while a pod loads, the budget
demands all of them, and no pod of the endpoint is evicted. Otherwise it lets go of pods that are not ready, because a
broken pod should not keep a node from being drained
(https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy).
"""

from __future__ import annotations

from llmendpoint_common.api.endpoint.scaling import DisruptionBudget
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner

_ALL = "100%"


def disruption_budget(owner: Owner, budget: DisruptionBudget, *, loading: bool) -> Manifest:
    """Return the PodDisruptionBudget. `loading` is whether a pod loads its models."""
    given = budget.min_available
    minimum = int(given) if given.isdecimal() else given
    return {
        **owner.child("PodDisruptionBudget", layout.disruption_budget_name(owner), layout.COMPONENT),
        "spec": {
            "minAvailable": _ALL if loading else minimum,
            "unhealthyPodEvictionPolicy": "IfHealthyBudget" if loading else "AlwaysAllow",
            "selector": {"matchLabels": layout.selector(owner)},
        },
    }
