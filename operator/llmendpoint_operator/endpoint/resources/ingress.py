"""Ingress of an endpoint. It leads to the client Service, and does not buffer or cut streams in ingress-nginx."""

from __future__ import annotations

import math

from llmendpoint_common.api.endpoint.ingress import Ingress
from llmendpoint_common.api.endpoint.metering import Metering, Timeouts
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.process.units import parse_duration
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner

_NGINX = "nginx.ingress.kubernetes.io"
#: Time by which the controller waits longer than the endpoint, so that clients get the endpoint's own error.
_MARGIN_SECONDS = 60
#: The longest timeout that the schema allows, 30 days. An endpoint that was stored before this bound may have a longer
#: one, which would not fit into the 32 bits of nginx on some platforms.
_MAX_SECONDS = 30 * 86400


def ingress(owner: Owner, spec: LLMEndpointSpec, wanted: Ingress) -> Manifest:
    """Return the Ingress."""
    annotations = {**_streaming(spec.metering), **wanted.annotations}
    service = {"name": layout.client_service_name(owner), "port": {"name": layout.SERVICE_PORT}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    tls = {"tls": [{"hosts": [wanted.host], "secretName": wanted.tls_secret_name}]} if wanted.tls_secret_name else {}
    return {
        **owner.child("Ingress", layout.ingress_name(owner), "client", annotations=annotations),
        "spec": {
            **({"ingressClassName": wanted.class_name} if wanted.class_name else {}),
            "rules": [{"host": wanted.host, "http": {"paths": [path]}}],
            **tls,
        },
    }


def _streaming(metering: Metering) -> dict[str, str]:
    """Return annotations for ingress-nginx; other controllers ignore them.

    The defaults are a read timeout of 60 s, bodies of at most 1 MiB, and buffers for both directions
    (https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/). The proxy limits the size
    of bodies itself.
    """
    timeouts = metering.timeouts or Timeouts()
    silence = max(parse_duration(timeouts.first_byte), parse_duration(timeouts.idle))
    seconds = str(min(math.ceil(silence), _MAX_SECONDS) + _MARGIN_SECONDS)
    return {
        f"{_NGINX}/proxy-read-timeout": seconds,
        f"{_NGINX}/proxy-send-timeout": seconds,
        f"{_NGINX}/proxy-body-size": "0",
        f"{_NGINX}/proxy-buffering": "off",
        f"{_NGINX}/proxy-request-buffering": "off",
    }
