"""Checks the claim for the files of a run before its start: a pod with a wrong claim never starts, or loses files."""

from __future__ import annotations

import logging

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_common.process.errors import NotReadyError, RunRefusedError
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.context import Context, Run
from llmendpoint_operator.loadtest.resources.volumes import CLAIM_FIELD

log = logging.getLogger(__name__)

_WRITABLE = frozenset({"ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"})


async def check_claim(context: Context, run: Run) -> None:
    """Raise NotReadyError if the claim of a run cannot be used yet, and RunRefusedError if it is of a wrong kind."""
    if run.spec.results is None:
        return
    name, namespace = run.spec.results.persistent_volume_claim.claim_name, run.owner.namespace
    try:
        claim = await context.cluster.objects.get("PersistentVolumeClaim", namespace, name)
    except API_ERRORS as error:
        # Without the right to read claims, the scheduler and kubelet say what is wrong.
        log.info("%s: cannot read PersistentVolumeClaim %s: %s", run.key, name, describe(error))
        return
    named = f"PersistentVolumeClaim {name} in {CLAIM_FIELD}"
    if claim is None:
        raise NotReadyError(f"{named} does not exist.", "The run starts when it exists.")
    if claim["metadata"].get("deletionTimestamp"):
        raise NotReadyError(f"{named} is being deleted. Name another claim.")
    if (claim.get("status") or {}).get("phase") == "Lost":
        raise NotReadyError(f"{named} has lost its volume (kubectl describe pvc {name}). Name another claim.")
    problem = _problem(claim, run.spec.load.parallelism)
    if problem:
        raise RunRefusedError(FaultReason.INVALID, f"{named} {problem}")


def _problem(claim: Manifest, pods: int) -> str:
    """Return why no claim of this kind can receive the files of a run with so many pods, or an empty string."""
    spec = claim["spec"]
    modes = set(spec.get("accessModes") or [])
    if spec.get("volumeMode") == "Block":
        return "has the volumeMode Block, and files need Filesystem. Name another claim."
    if not modes & _WRITABLE:
        return f"cannot be written to, because its access mode is {' and '.join(sorted(modes))}. Name another claim."
    if pods > 1 and modes == {"ReadWriteOncePod"}:
        return (
            f"allows only one pod to use it, because its access mode is ReadWriteOncePod, and the run has {pods} pods. "
            "Name a claim with ReadWriteMany, or set spec.load.parallelism to 1."
        )
    return ""
