"""Keeps the operator's ServiceAccount while pods change to the one that the spec names.

During a rolling update, the StatefulSet controller creates a missing pod with a low ordinal from the previous template.
Without its ServiceAccount, the API server refuses this pod, and the controller updates no other pod before it exists
(`updateStatefulSet` in `pkg/controller/statefulset/stateful_set_control.go`): the update would never end.
"""

from __future__ import annotations

from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.cluster.snapshots import Child
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.resources.service_account import service_account
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.reconcile.desired_children import DesiredChildren


def with_account_in_use(
    owner: Owner, desired: DesiredChildren, account: Child | None, statefulset: Child | None
) -> DesiredChildren:
    """Return the desired children, and the operator's ServiceAccount if it exists and pods may still need it."""
    own = ChildKey("ServiceAccount", layout.service_account_name(owner))
    if account is None or statefulset is None or own in desired.keys:
        return desired
    if _is_rolled_out(statefulset, desired.stamp(ChildKey("StatefulSet", layout.statefulset_name(owner)))):
        return desired
    return DesiredChildren.of([service_account(owner), *desired.manifests])


def _is_rolled_out(statefulset: Child, stamp: str) -> bool:
    """Return whether the wanted template has been applied, and no pod can be created from another one."""
    status = statefulset.body.get("status") or {}
    return (
        statefulset.applied_hash == stamp
        and status.get("observedGeneration", 0) >= statefulset.generation
        and status.get("currentRevision") == status.get("updateRevision")
    )
