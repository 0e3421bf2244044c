"""Rules of the policy: which values they allow, and that they cover every field of the API that they are meant for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from llmendpoint_common.api.endpoint import spec as endpoint
from llmendpoint_common.api.fields import LocalReference, Toleration
from llmendpoint_common.api.loadtest import spec as loadtest
from llmendpoint_common.api.loadtest.request import SecretKeyReference
from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.policy.rules import (
    RULES,
    full_image_name,
    host_of,
    is_image_below,
    sentences,
    violations,
    violations_of_template,
)
from support.documents.golden import read_spec

GOLDENS = Path(__file__).parents[1]
MODELS = {"models": [{"name": "tiny:latest"}]}
NOTHING = Policy(**dict.fromkeys(Policy.__struct_fields__, ()))


def of_endpoint(policy: Policy, **spec: Any) -> list[tuple[str, str, str]]:
    parsed = endpoint.parse_spec({"spec": {**MODELS, **spec}})
    return [(found.rule, *found.use) for found in violations(policy, LLMENDPOINT, parsed)]


def of_loadtest(policy: Policy, **spec: Any) -> list[tuple[str, str, str]]:
    parsed = loadtest.parse_spec({"spec": {"model": "m:1", **spec}})
    return [(found.rule, *found.use) for found in violations(policy, LOADTEST, parsed)]


def everything(kind: str) -> dict[str, Any]:
    return read_spec(GOLDENS / kind / "golden", "everything")


def test_without_a_policy_everything_is_allowed() -> None:
    assert of_endpoint(ALLOW_ALL, **everything("endpoint")) == []
    assert of_loadtest(ALLOW_ALL, **everything("loadtest")) == []


def test_a_minimal_spec_is_allowed_by_the_strictest_policy() -> None:
    assert of_endpoint(NOTHING) == []
    assert of_loadtest(NOTHING, endpointRef={"name": "assistant"}) == []


def test_every_forbidden_value_of_an_endpoint_is_found() -> None:
    assert of_endpoint(NOTHING, **everything("endpoint")) == [
        ("imagePrefixes", "spec.ollama.image", "registry.example/ollama:0.17.4"),
        ("imagePrefixes", "spec.metering.image", "registry.example/sidecar:1"),
        ("imagePrefixes", "spec.pod.volumes[3].image.reference", "registry.example/models/assistant:1"),
        ("imagePrefixes", "spec.podTemplate.spec.initContainers[0].image", "registry.example/prepare:1"),
        ("imagePrefixes", "spec.podTemplate.spec.containers[0].image", "registry.example/agent:1"),
        ("priorityClasses", "spec.pod.priorityClassName", "production"),
        ("serviceTypes", "spec.service.type", "LoadBalancer"),
        ("hostNames", "spec.ingress.host", "llm.example.org"),
        ("hostNames", "spec.httpRoute.hostnames", "llm.example.org"),
        ("hostNames", "spec.httpRoute.hostnames", "*.llm.example.org"),
        ("ingressClasses", "spec.ingress.className", "public"),
        ("ingressAnnotations", "spec.ingress.annotations", "cert-manager.io/cluster-issuer"),
        ("ingressAnnotations", "spec.ingress.annotations", "nginx.ingress.kubernetes.io/proxy-body-size"),
        ("serviceAnnotations", "spec.service.annotations", "example.org/load-balancer"),
        ("secretNames", "spec.ingress.tlsSecretName", "llm-tls"),
        ("secretNames", "spec.metering.auth.secretRefs[0].name", "keys"),
        ("secretNames", "spec.metering.auth.secretRefs[1].name", "next-keys"),
        ("secretNames", "spec.pod.imagePullSecrets[0].name", "registry"),
        ("podLabelPrefixes", "spec.pod.labels", "team"),
        ("podAnnotations", "spec.pod.annotations", "example.org/contact"),
        ("tolerationKeys", "spec.pod.tolerations[0].key", "pool"),
        ("tolerationKeys", "spec.pod.tolerations[1].key", "nvidia.com/gpu"),
        ("serviceAccountNames", "spec.pod.serviceAccountName", "models-reader"),
        ("claimNames", "spec.pod.volumes[0].persistentVolumeClaim.claimName", "shared-models"),
        ("claimNames", "spec.podTemplate.spec.volumes[1].ephemeral.volumeClaimTemplate.spec.dataSource.name", "shared"),
        ("volumeTypes", "spec.pod.volumes[0]", "persistentVolumeClaim"),
        ("volumeTypes", "spec.pod.volumes[1]", "configMap"),
        ("volumeTypes", "spec.pod.volumes[2]", "emptyDir"),
        ("volumeTypes", "spec.pod.volumes[3]", "image"),
        ("volumeTypes", "spec.pod.volumes[4]", "csi"),
        ("volumeTypes", "spec.podTemplate.spec.volumes[0]", "projected"),
        ("volumeTypes", "spec.podTemplate.spec.volumes[1]", "ephemeral"),
        ("podTemplateFields", "spec.podTemplate.spec", "dnsConfig"),
        ("podTemplateFields", "spec.podTemplate.spec", "hostAliases"),
        ("podTemplateFields", "spec.podTemplate.spec", "schedulerName"),
        ("podTemplateFields", "spec.podTemplate.spec", "volumes"),
        ("podTemplateFields", "spec.podTemplate.spec", "initContainers"),
        ("podTemplateFields", "spec.podTemplate.spec", "containers"),
    ]


def test_every_forbidden_value_of_a_load_test_is_found() -> None:
    spec = {**everything("loadtest"), "endpointRef": None, "target": {"url": "https://Evil.example:8443/x"}}
    assert of_loadtest(NOTHING, **spec) == [
        ("priorityClasses", "spec.pod.priorityClassName", "low"),
        ("secretNames", "spec.request.apiKeySecretRef.name", "keys"),
        ("secretNames", "spec.pod.imagePullSecrets[0].name", "mine"),
        ("podLabelPrefixes", "spec.pod.labels", "team"),
        ("podAnnotations", "spec.pod.annotations", "note"),
        ("targetHosts", "spec.target.url", "evil.example"),
        ("tolerationKeys", "spec.pod.tolerations[0].key", "load"),
        ("claimNames", "spec.results.persistentVolumeClaim.claimName", "runs"),
    ]


def test_what_a_load_test_may_not_use_its_schedule_may_not_use_either() -> None:
    spec = {**everything("loadtest"), "endpointRef": None, "target": {"url": "https://Evil.example:8443/x"}}
    parsed = loadtest.parse_spec({"spec": {"model": "m:1", **spec}})
    found = [(each.rule, *each.use) for each in violations_of_template(NOTHING, parsed)]
    assert found == [(rule, f"spec.template.{field}", value) for rule, field, value in of_loadtest(NOTHING, **spec)]


def fields_of(model: type[BaseModel], path: str = "spec") -> Iterator[tuple[str, Any]]:
    """Yield the path and the type of every field of an API, without indices of lists."""
    for name, field in model.model_fields.items():
        place = f"{path}.{field.alias or name}"
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [item for kind in kinds for item in get_args(kind)]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        yield place, inner or field.annotation
        if inner is not None:
            yield from fields_of(inner, place)


_SENSITIVE = ("image", "priorityClassName", "serviceAccountName", "className", "annotations")
_SENSITIVE_PLACES = (
    "spec.pod.labels",
    "spec.pod.volumes",
    "spec.podTemplate",
    "spec.results.persistentVolumeClaim.claimName",
)


def is_sensitive(place: str, kind: Any) -> bool:
    name = place.rpartition(".")[2]
    is_secret = "secret" in name.lower() and (kind in (LocalReference, SecretKeyReference) or name.endswith("Name"))
    is_host = name in ("host", "hostnames") and "source" not in place
    return is_secret or is_host or kind is Toleration or name in _SENSITIVE or place in _SENSITIVE_PLACES


@pytest.mark.parametrize(
    ("kind", "model", "found"),
    [
        (LLMENDPOINT, endpoint.LLMEndpointSpec, of_endpoint(NOTHING, **everything("endpoint"))),
        (LOADTEST, loadtest.LoadTestSpec, of_loadtest(NOTHING, **everything("loadtest"))),
    ],
)
def test_a_new_field_for_an_image_a_secret_or_the_scheduler_needs_a_rule(
    kind: str, model: type[BaseModel], found: list[tuple[str, str, str]]
) -> None:
    covered = [re.sub(r"\[\d+\]", "", field) for _, field, _ in found]
    for place, type_of_field in fields_of(model):
        if is_sensitive(place, type_of_field):
            assert any(field.startswith(place) for field in covered), f"{kind}: no rule of the policy covers {place}"


def test_every_rule_of_the_document_is_in_the_table() -> None:
    assert [rule.name for rule in RULES] == list(Policy.__struct_encode_fields__)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("ollama", "docker.io/library/ollama"),
        ("ollama:0.17", "docker.io/library/ollama:0.17"),
        ("ollama/ollama@sha256:1", "docker.io/ollama/ollama@sha256:1"),
        ("docker.io/ollama", "docker.io/library/ollama"),
        ("index.docker.io/ollama/ollama", "docker.io/ollama/ollama"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("registry:5000/a", "registry:5000/a"),
        ("localhost/a", "localhost/a"),
        ("Registry/a", "Registry/a"),
        ("registry/a", "docker.io/registry/a"),
    ],
)
def test_names_of_images_are_completed_as_container_runtimes_do(image: str, name: str) -> None:
    assert full_image_name(image) == name


@pytest.mark.parametrize(
    ("prefix", "image", "expected"),
    [
        ("docker.io/ollama/", "ollama/ollama:0.17.4", True),
        ("docker.io/ollama/ollama", "ollama/ollama:0.17.4", True),
        ("docker.io/ollama/ollama", "ollama/ollama@sha256:1", True),
        ("docker.io/ollama/ollama:0.17.4", "ollama/ollama:0.17.4", True),
        ("docker.io/ollama/ollama:0.17.4", "ollama/ollama:0.17.40", False),
        ("docker.io/ollama/ollama", "ollama/ollama-evil:1", False),
        ("registry.example", "registry.example/a:1", True),
        ("registry.example", "registry.example.evil.org/a:1", False),
        ("registry.example", "registry.example:5000/a:1", False),
        ("registry.example:5000", "registry.example:5000/a:1", True),
        ("registry.example/", "registry.example:5000/a:1", False),
        ("registry.example/team", "registry.example/teams/a", False),
        ("registry.example/team", "registry.example/team/a", True),
        ("registry.example/", "evil/registry.example/a", False),
        ("docker.io/", "evil.example/a", False),
        ("docker.io/", "anything", True),
    ],
)
def test_prefixes_of_images(prefix: str, image: str, expected: bool) -> None:
    assert is_image_below(prefix, image) is expected


@pytest.mark.parametrize(
    ("hosts", "url", "expected"),
    [
        (["vllm.models.svc"], "http://vllm.models.svc:8000/v1", True),
        (["VLLM.models.svc"], "http://Vllm.Models.Svc", True),
        (["*.models.svc"], "http://vllm.models.svc", True),
        (["*.models.svc"], "http://models.svc.evil.org", False),
        (["*.models.svc"], "http://evil.org/.models.svc", False),
        (["::1"], "http://[::1]:8000", True),
    ],
)
def test_hosts_of_targets(hosts: list[str], url: str, expected: bool) -> None:
    assert (of_loadtest(Policy(target_hosts=tuple(hosts)), target={"url": url}) == []) is expected


@pytest.mark.parametrize(
    ("allowed", "spec", "found"),
    [
        (["*.team.example"], {"ingress": {"host": "llm.team.example"}}, []),
        (["*.team.example"], {"ingress": {"host": "*.team.example"}}, []),
        (["*.team.example"], {"ingress": {"host": "team.example"}}, ["team.example"]),
        (["llm.team.example"], {"ingress": {"host": "*.team.example"}}, ["*.team.example"]),
        (["*.team.example"], {"httpRoute": {"parentRefs": [{"name": "a"}]}}, ["*"]),
        (["*"], {"httpRoute": {"parentRefs": [{"name": "a"}]}}, []),
        (["a.b"], {"httpRoute": {"parentRefs": [{"name": "a"}], "hostnames": ["a.b", "b.a"]}}, ["b.a"]),
    ],
)
def test_hosts_of_an_ingress_and_an_http_route(allowed: list[str], spec: dict[str, Any], found: list[str]) -> None:
    assert [value for _, _, value in of_endpoint(Policy(host_names=tuple(allowed)), **spec)] == found


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.org?x.models.svc",
        "http://evil.org#x.models.svc",
        "http://allowed@evil.org",
        "http://allowed:80@evil.org:80",
        "http://evil.org\\@allowed",
        "http://[broken",
    ],
)
def test_urls_whose_host_readers_disagree_about_are_not_judged_but_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must be a URL like"):
        of_loadtest(Policy(target_hosts=("*",)), target={"url": url})


@pytest.mark.parametrize(
    "url",
    ["http://A.b:1/c", "http://[::1]:1", "http://a%2eb", "http://a.", "http://ä.b"],
)
def test_the_load_generator_connects_to_the_host_that_was_judged(url: str) -> None:
    assert host_of(url) == parse_target(url).host


@pytest.mark.parametrize("url", ["http://a@b", "http://a:1@b:2", "http://x\\@y"])
def test_the_load_generator_refuses_urls_with_a_user_name(url: str) -> None:
    with pytest.raises(ValueError, match="user name"):
        parse_target(url)


@pytest.mark.parametrize(
    ("policy", "pod", "found"),
    [
        (Policy(toleration_keys=("nvidia.com/*",)), {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}, []),
        (Policy(toleration_keys=("nvidia.com/*",)), {"tolerations": [{"operator": "Exists"}]}, [""]),
        (Policy(toleration_keys=("*",)), {"tolerations": [{"operator": "Exists"}]}, []),
        (Policy(priority_classes=("low",)), {"priorityClassName": "system-node-critical"}, ["system-node-critical"]),
        (Policy(priority_classes=("low",)), {"priorityClassName": "low"}, []),
        (Policy(pod_label_prefixes=("example.com/",)), {"labels": {"app": "payments", "example.com/a": "b"}}, ["app"]),
        (Policy(pod_annotations=("team.example/*",)), {"annotations": {"iam.amazonaws.com/role": "a", "team.example/a": "b"}},
         ["iam.amazonaws.com/role"]),
        (Policy(pod_annotations=()), {"annotations": {}}, []),
        (Policy(secret_names=("llm-*",)), {"imagePullSecrets": [{"name": "llm-a"}, {"name": "LLM-a"}]}, ["LLM-a"]),
    ],
)  # fmt: skip
def test_fields_of_pods(policy: Policy, pod: dict[str, Any], found: list[str]) -> None:
    assert [value for _, _, value in of_endpoint(policy, pod=pod)] == found
    assert [value for _, _, value in of_loadtest(policy, endpointRef={"name": "a"}, pod=pod)] == found


@pytest.mark.parametrize(
    ("policy", "spec", "found"),
    [
        (Policy(claim_names=("models-*",)), {"storage": {"type": "ExistingClaim", "claimName": "models-a"}}, []),
        (Policy(claim_names=("models-*",)), {"storage": {"type": "ExistingClaim", "claimName": "db"}}, ["db"]),
        (Policy(volume_types=("emptyDir",)), {"pod": {"volumes": [{"name": "a", "emptyDir": {}}]}}, []),
        (Policy(pod_template_fields=("dns*",)), {"podTemplate": {"spec": {"dnsPolicy": "None", "hostUsers": False}}}, ["hostUsers"]),
        (Policy(image_prefixes=("a.example",)), {"podTemplate": {"spec": {"volumes": [{"name": "v", "image": {"reference": "b.example/x"}}]}}},
         ["b.example/x"]),
        (Policy(image_prefixes=()), {"podTemplate": {"spec": {"initContainers": [{"name": "ollama", "env": []}]}}}, []),
    ],
)  # fmt: skip
def test_volumes_and_templates_of_pods(policy: Policy, spec: dict[str, Any], found: list[str]) -> None:
    assert [value for _, _, value in of_endpoint(policy, **spec)] == found


def of_new_claims(policy: Policy, **template: Any) -> list[tuple[str, str, str]]:
    """Return the violations of an endpoint whose pods get a new claim with this template."""
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    return of_endpoint(policy, podTemplate={"spec": {"volumes": [volume]}})


_TEMPLATE_OF_CLAIMS = "spec.podTemplate.spec.volumes[0].ephemeral.volumeClaimTemplate"


@pytest.mark.parametrize(
    ("allowed", "claim", "field", "value"),
    [
        ("models-*", {"volumeName": "victim"}, "volumeName", "victim"),
        ("models-*", {"selector": {"matchLabels": {"team": "b"}}}, "selector", ""),
        ("models-*", {"selector": {}}, "selector", ""),
        ("models-*", {"dataSource": {"kind": "PersistentVolumeClaim", "name": "victim"}}, "dataSource.name", "victim"),
        ("models-*", {"dataSourceRef": {"kind": "VolumeSnapshot", "name": "victim"}}, "dataSourceRef.name", "victim"),
        ("models-*", {"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "models-a", "namespace": "other"}},
         "dataSourceRef.name", "other/models-a"),
    ],
)  # fmt: skip
def test_a_new_claim_gets_only_the_volumes_and_data_whose_names_are_allowed(
    allowed: str, claim: dict[str, Any], field: str, value: str
) -> None:
    found = of_new_claims(Policy(claim_names=(allowed,)), spec=claim)
    assert found == [("claimNames", f"{_TEMPLATE_OF_CLAIMS}.spec.{field}", value)]
    assert of_new_claims(Policy(claim_names=("*",)), spec=claim) == []


@pytest.mark.parametrize(
    "claim",
    [
        {"resources": {"requests": {"storage": "1Gi"}}},
        {"volumeName": ""},
        {"volumeName": "models-a", "dataSource": {"kind": "PersistentVolumeClaim", "name": "models-b"}},
        {"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "models-a"}},
    ],
)
def test_a_new_claim_without_a_foreign_volume_is_allowed(claim: dict[str, Any]) -> None:
    assert of_new_claims(Policy(claim_names=("models-*",)), spec=claim) == []


def test_annotations_of_new_claims_are_those_of_pods() -> None:
    metadata = {"annotations": {"k8s.io/CloneRequest": "other/victim", "team.example/a": "b"}}
    found = of_new_claims(Policy(pod_annotations=("team.example/*",)), metadata=metadata, spec={})
    assert found == [("podAnnotations", f"{_TEMPLATE_OF_CLAIMS}.metadata.annotations", "k8s.io/CloneRequest")]


@pytest.mark.parametrize("broken", [{"metadata": []}, {"metadata": {"annotations": ["a"]}}, {"spec": "a"}, {}])
def test_a_claim_template_that_the_api_server_would_refuse_is_not_judged(broken: dict[str, Any]) -> None:
    assert of_new_claims(Policy(claim_names=(), pod_annotations=()), **broken) == []


def test_annotations_of_a_service_are_patterns() -> None:
    service = {"type": "LoadBalancer", "annotations": {"cloud.example/internal": "true", "cloud.example/scheme": "x"}}
    found = of_endpoint(Policy(service_annotations=("cloud.example/internal",)), service=service)
    assert found == [("serviceAnnotations", "spec.service.annotations", "cloud.example/scheme")]


def test_a_message_names_the_rule_the_field_and_the_value() -> None:
    policy = Policy(service_types=(), image_prefixes=tuple(f"registry.example/{index}" for index in range(7)))
    spec = endpoint.parse_spec(
        {"spec": {**MODELS, "service": {"type": "NodePort"}, "ollama": {"image": "evil/" + "x" * 900}}}
    )
    text = sentences(violations(policy, LLMENDPOINT, spec))
    assert "spec.ollama.image: the operator's policy does not allow 'evil/xxx" in text
    assert "registry.example/4, …)" in text
    assert (
        "spec.service.type: the operator's policy does not allow 'NodePort' (rule serviceTypes: no value is allowed)."
        in text
    )
    assert len(text) < 1024
