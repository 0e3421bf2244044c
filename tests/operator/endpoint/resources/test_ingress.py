"""The Ingress of an endpoint."""

from __future__ import annotations

from typing import Any

from llmendpoint_operator.reconcile.dependencies import needs
from support.in_memory.endpoints import children

HOST = {"host": "llm.example.com"}
NGINX = "nginx.ingress.kubernetes.io"


def ingress(given: dict[str, Any] = HOST, **spec: Any) -> dict[str, Any]:
    return children(ingress=given, **spec)["Ingress/assistant"]


def test_without_the_field_there_is_no_ingress() -> None:
    assert not [name for name in children() if name.startswith("Ingress/")]


def test_all_paths_of_the_host_lead_to_the_service_of_clients() -> None:
    (rule,) = ingress(service={"port": 80})["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert rule["host"] == "llm.example.com"
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    service = path["backend"]["service"]
    (port,) = children()[f"Service/{service['name']}"]["spec"]["ports"]
    assert service["port"] == {"name": port["name"]}


def test_class_and_certificate_are_optional() -> None:
    assert ingress()["spec"].keys() == {"rules"}
    spec = ingress({**HOST, "className": "public", "tlsSecretName": "tls"})["spec"]
    assert spec["ingressClassName"] == "public"
    assert spec["tls"] == [{"hosts": ["llm.example.com"], "secretName": "tls"}]


def test_ingress_nginx_waits_longer_than_the_endpoint_and_buffers_nothing() -> None:
    annotations = ingress()["metadata"]["annotations"]
    assert annotations[f"{NGINX}/proxy-read-timeout"] == annotations[f"{NGINX}/proxy-send-timeout"] == "3660"
    assert annotations[f"{NGINX}/proxy-buffering"] == annotations[f"{NGINX}/proxy-request-buffering"] == "off"
    assert annotations[f"{NGINX}/proxy-body-size"] == "0"
    patient = {"timeouts": {"firstByte": "90m", "idle": "1500ms"}}
    assert ingress(metering=patient)["metadata"]["annotations"][f"{NGINX}/proxy-read-timeout"] == "5460"
    quiet = {"timeouts": {"firstByte": "1s", "idle": "1500ms"}}
    assert ingress(metering=quiet)["metadata"]["annotations"][f"{NGINX}/proxy-read-timeout"] == "62"


def test_a_timeout_that_was_stored_before_its_bound_fits_into_the_integers_of_nginx() -> None:
    endless = {"timeouts": {"firstByte": "99999999h", "idle": "1s"}}
    seconds = int(ingress(metering=endless)["metadata"]["annotations"][f"{NGINX}/proxy-read-timeout"])
    assert 30 * 86400 < seconds < 2**31


def test_annotations_of_the_spec_take_precedence() -> None:
    given = {"a.example/b": "c", f"{NGINX}/proxy-body-size": "8m"}
    annotations = ingress({**HOST, "annotations": given})["metadata"]["annotations"]
    assert given.items() <= annotations.items()
    assert annotations[f"{NGINX}/proxy-buffering"] == "off"


def test_an_ingress_never_opens_the_service_of_a_stranger() -> None:
    everything = children(ingress=HOST)
    assert "Service/assistant" in [str(key) for key in needs(everything["Ingress/assistant"], everything.values())]
