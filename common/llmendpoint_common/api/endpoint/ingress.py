"""The Ingress of an endpoint: `spec.ingress`."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import Annotations, ApiModel, HostName, ObjectName


class Ingress(ApiModel):
    """The Ingress through which clients outside the cluster use an endpoint."""

    host: HostName = Field(
        description="Host name under which clients use the endpoint, for example llm.example.com, or a wildcard such "
        "as *.example.com. All paths lead to the Service. If metering.allowedHosts is set, this host is allowed in "
        "addition to it."
    )
    class_name: ObjectName | None = Field(
        None,
        description="IngressClass that selects the Ingress controller. If absent, the default IngressClass of the "
        "cluster is used; without one, no controller serves the Ingress.",
    )
    tls_secret_name: ObjectName | None = Field(
        None,
        description="Secret of the type kubernetes.io/tls, in the namespace of the endpoint, with the certificate for "
        "the host. The controller terminates TLS with it. If absent, the Ingress has no TLS section, and most "
        "controllers then serve plain HTTP.",
    )
    annotations: Annotations = Field(
        default_factory=dict,
        description="Annotations of the Ingress, for example cert-manager.io/cluster-issuer, or settings of the "
        "controller. They take precedence over the annotations with which the operator switches off buffering and "
        "short timeouts in ingress-nginx. docs/balancers.md has the settings that streams need in other controllers.",
    )
