"""ServiceAccount of an endpoint's pods. It has no rights, and its token is not mounted."""

from __future__ import annotations

from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner


def service_account(owner: Owner) -> Manifest:
    """Return the ServiceAccount."""
    return {
        **owner.child("ServiceAccount", layout.service_account_name(owner), "identity"),
        "automountServiceAccountToken": False,
    }
