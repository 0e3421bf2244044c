"""Keeps the operator's ServiceAccount while pods change to the one that the spec names.

During a rolling update, the StatefulSet controller creates a missing pod with a low ordinal from the previous template.
Without its ServiceAccount, the API server refuses this pod, and the controller updates no other pod before it exists
(`updateStatefulSet` in `pkg/controller/statefulset/stateful_set_control.go`): the update would never end.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.cluster.snapshots import Child, hash_of
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.resources.service_account import service_account
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.reconcile.plan import key_of


def with_account_in_use(
    owner: Owner, desired: Sequence[Manifest], account: Child | None, statefulset: Child | None
) -> list[Manifest]:
    """Return the desired children, and the operator's ServiceAccount if it exists and pods may still need it."""
    own = ChildKey("ServiceAccount", layout.service_account_name(owner))
    wanted = {key_of(manifest): manifest for manifest in desired}
    name = ChildKey("StatefulSet", layout.statefulset_name(owner))
    if own in wanted or account is None or statefulset is None or _is_rolled_out(statefulset, wanted[name]):
        return [*desired]
    return [service_account(owner), *desired]


def _is_rolled_out(statefulset: Child, wanted: Manifest) -> bool:
    """Return whether the wanted template has been applied, and no pod can be created from another one."""
    status = statefulset.body.get("status") or {}
    return (
        statefulset.applied_hash == hash_of(wanted)
        and status.get("observedGeneration", 0) >= statefulset.generation
        and status.get("currentRevision") == status.get("updateRevision")
    )
