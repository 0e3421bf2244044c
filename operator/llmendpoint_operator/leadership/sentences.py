"""Sentences about the standing of an operator, for logs, `/readyz` and Events. Has no side effects."""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import LEASE_NAME
from llmendpoint_operator.leadership.claims import Candidate, Claim, Reach
from llmendpoint_operator.leadership.election import Phase, Standing

_ADVICE = "Uninstall one of the two, or give them different namespaces (operator.watchNamespaces of the chart)."


def sentence(me: Candidate, standing: Standing, error: str) -> str:
    """Return what this process does with a scope, and why."""
    if standing.conflict and standing.other is not None:
        return conflict(me, standing.other)
    scope, lease = scope_of(me), f"Lease {me.home}/{LEASE_NAME}"
    if standing.leader:
        return f"This operator serves {scope} ({lease})."
    if standing.phase is Phase.STANDBY and standing.other is not None and standing.other.holder:
        return f"Standby: {standing.other.holder} serves {scope} ({lease})."
    return f"This operator does not serve {scope} at present: {_cause(standing, lease, error)}"


def _cause(standing: Standing, lease: str, error: str) -> str:
    if error:
        return f"it cannot read or write {lease}: {error.rstrip('.')}. It tries again."
    if standing.phase is Phase.CLAIMING:
        return "other operators may not know yet that it does. It will within 15 s."
    if standing.phase is Phase.LEADING:
        return f"{lease} was not renewed, or its renewals were not seen, for 10 s."
    return f"it waits for {lease}."


def conflict(me: Candidate, other: Claim) -> str:
    """Return the sentence about another installation that serves a scope, with advice."""
    served = "all namespaces" if other.reach is Reach.CLUSTER else f"namespace {other.namespace}"
    holder = f"held by {other.holder}" if other.holder else "given back a moment ago"
    waits = "writes to no namespace" if me.reach is Reach.CLUSTER else f"does not write to namespace {me.home}"
    return (
        f"Installation {other.installation or 'unknown'} serves {served} (Lease {other.namespace}/{LEASE_NAME}, "
        f"{holder}). This operator, installation {me.installation}, {waits} until that one ends. {_ADVICE}"
    )


def left_out(namespace: str, installation: str) -> str:
    """Return the sentence about a namespace that another operator serves."""
    return (
        f"Namespace {namespace} is left to installation {installation}, which serves only some namespaces (Lease "
        f"{namespace}/{LEASE_NAME})."
    )


def scope_of(me: Candidate) -> str:
    """Return the name of a scope in sentences."""
    return "all namespaces" if me.reach is Reach.CLUSTER else f"namespace {me.home}"
