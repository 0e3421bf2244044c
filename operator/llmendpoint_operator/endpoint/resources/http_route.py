"""HTTPRoute of an endpoint. It attaches the client Service to Gateways, without a limit for the time of a request."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.http_route import HTTPRoute
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner

#: No limit (GEP-1742). Without it, the default of the Gateway's implementation applies: 15 s in Envoy.
_TIMEOUTS = {"request": "0s", "backendRequest": "0s"}


def http_route(owner: Owner, spec: LLMEndpointSpec, wanted: HTTPRoute) -> Manifest:
    """Return the HTTPRoute."""
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": layout.client_service_name(owner), "port": spec.service.port}],
        "timeouts": _TIMEOUTS,
    }
    parents = [parent.model_dump(by_alias=True, exclude_none=True) for parent in wanted.parent_refs]
    return {
        **owner.child("HTTPRoute", layout.http_route_name(owner), "client"),
        "spec": {
            "parentRefs": parents,
            **({"hostnames": list(wanted.hostnames)} if wanted.hostnames else {}),
            "rules": [rule],
        },
    }
