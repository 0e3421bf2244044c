"""Invalid objects, which the API server rejects with a message that names the field."""

from __future__ import annotations

import copy
import itertools
import re
from functools import partial
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.api_server.manifests import endpoint
from support.waiting import wait_until

#: Labels that the operator sets itself.
OWN_LABELS = ["llmendpoint.dev/endpoint", "llmendpoint.dev/anything", "app.kubernetes.io/name",
              "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"]  # fmt: skip
CLAIM = {"name": "gpu", "resourceClaimTemplateName": "one-gpu"}

#: Variables of Ollama for which the spec has a field.
FIELDS = {
    "OLLAMA_NUM_PARALLEL": "numParallel",
    "OLLAMA_MAX_LOADED_MODELS": "maxLoadedModels",
    "OLLAMA_MAX_QUEUE": "maxQueue",
    "OLLAMA_CONTEXT_LENGTH": "contextLength",
    "OLLAMA_KEEP_ALIVE": "keepAlive",
    "OLLAMA_FLASH_ATTENTION": "flashAttention",
    "OLLAMA_KV_CACHE_TYPE": "kvCacheType",
}
ENDPOINTS: list[tuple[dict[str, Any], str]] = [
    ({"models": []}, "spec.models"),
    ({"models": [{"name": "tiny"}]}, "write the model with its tag"),
    ({"models": [{"name": "a:1"}, {"name": "a:1"}]}, "spec.models: duplicate entries"),
    ({"gpu": {"count": -1}}, "spec.gpu.count"),
    ({"replicas": -1}, "spec.replicas"),
    (
        {"storage": {"type": "Ephemeral", "size": "5Gi"}},
        "size and storageClassName may only be set if type is PersistentVolumeClaim",
    ),
    *(
        ({"storage": {**storage, "retentionPolicy": {field: "Delete"}}}, "may only be Delete if type is PersistentVolumeClaim")
        for storage in ({"type": "Ephemeral"}, {"type": "ExistingClaim", "claimName": "a"})
        for field in ("whenDeleted", "whenScaled")
    ),
    (
        {"models": [{"name": "a:1"}, {"name": "b:1"}, {"name": "c:1"}], "ollama": {"maxLoadedModels": 2}},
        "ollama.maxLoadedModels must be at least the number of models with load Preload",
    ),
    (
        {"models": [{"name": "a:1", "load": "OnDemand"}], "gpu": {"requireFullOffload": True}},
        "gpu.requireFullOffload is about models with load Preload, and there is none",
    ),
    *(
        ({"models": [{"name": name}]}, "must begin with a letter, a digit or an underscore")
        for name in ("../../x:1", ".a:1", "a/-b:1", "a:.1")
    ),
    *(
        ({"models": [{"name": "a:1", "source": {"registry": {"host": host, "repository": "a"}}}]}, "source.registry.host")
        for host in ("r.e:99999", "r.e:0", "-..-", "a..b", "r.e:")
    ),
    *(({"ollama": {"image": image}}, "must be the reference of an image") for image in ("", ":::", "a:b:c", "A", "a/", "a@b")),
    ({"metering": {"image": ""}}, "must be the reference of an image"),
    ({"ollama": {"kvCacheType": "q8_0", "flashAttention": False}}, "kvCacheType q8_0 and q4_0 require flash attention"),
    *(
        ({"metering": {"resources": {name: {"nvidia.com/gpu": 1}}}}, f"resources.{name} may not name GPUs")
        for name in ("requests", "limits")
    ),
    *(
        ({"metering": {"timeouts": {name: value}}}, "must be longer than 0 and at most 720h (30 days)")
        for name in ("connect", "firstByte", "idle", "keepAlive")
        for value in ("0s", "0h0ms", "720h0m1s", "99999999h", "99999999999999h")
    ),
    *(
        ({"metering": {"allowedHosts": [host]}}, "spec.metering.allowedHosts[0]")
        for host in ("http://foo", "foo bar", "a:1", "*foo", "a.*.b", "::1", "[::1]:80", "")
    ),
    ({"storage": {"type": "ExistingClaim"}}, "claimName is required if type is ExistingClaim"),
    *(({"storage": {"type": "Ephemeral", "sizeLimit": size}}, "sizeLimit must be greater than zero") for size in (0, "0Gi")),
    ({"pod": {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "0"}}]}}, "sizeLimit must be greater than zero"),
    ({"storage": {"type": "Ephemeral", "storageClassName": ""}}, "size and storageClassName may only be set if type"),
    ({"storage": {"storageClassName": "-"}}, "spec.storage.storageClassName"),
    (
        {"ollama": {"env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]}},
        "OLLAMA_HOST, OLLAMA_MODELS and HOME are set by the operator",
    ),
    ({"ollama": {"keepAlive": "soon"}}, "spec.ollama.keepAlive"),
    *(
        ({"models": [{"name": name}]}, "names below llmendpoint/ are those under which models are prepared")
        for name in ("llmendpoint/staged:latest", "LLMEndpoint/mine:1", "registry.ollama.ai/llmendpoint/previous:latest")
    ),
    *(
        ({"monitoring": {"interval": interval}}, "must be from 1s to 1h")
        for interval in ("0s", "0h0m0s0ms", "999ms", "61m", "99999999999h")
    ),
    *(
        ({"gpu": gpu, "ollama": {"resources": {name: {other: 1}}}}, f"ollama.resources.{name} has GPUs of another resource")
        for name in ("requests", "limits")
        for gpu, other in (({"count": 2}, "amd.com/gpu"), ({"resource": "amd.com/gpu"}, "nvidia.com/gpu"),
                           ({"count": 0}, "nvidia.com/mig-1g.10gb"), ({"resourceClaims": [CLAIM]}, "gpu.intel.com/xe"))
    ),
    *(({"ollama": {"keepAlive": value}}, "must be at most 720h (30 days)") for value in ("720h1ms", "9999999h")),
    *(
        ({"ollama": {"env": [{"name": name, "value": "1"}]}}, f"{name} has a field; set spec.ollama.{field}, and remove it")
        for name, field in FIELDS.items()
    ),
    *(
        ({"ollama": {"env": [{"name": name, "value": "/x.so"}]}}, "LD_AUDIT and LD_PRELOAD are not allowed")
        for name in ("LD_AUDIT", "LD_PRELOAD")
    ),
    ({"service": {"port": 99999}}, "spec.service.port"),
    ({"metering": {"mode": "Exporter", "maxWaiting": 3}}, "are only allowed with mode Proxy"),
    ({"metering": {"mode": "Exporter", "stall": {"restart": True}}}, "are only allowed with mode Proxy"),
    ({"metering": {"stall": {"after": "9s"}}}, "after must be at least 10s"),
    *(({"metering": {"stall": {"after": value}}}, "must be at most 720h (30 days)") for value in ("721h", "99999999999h")),
    ({"metering": {"workers": 0}}, "spec.metering.workers"),
    ({"metering": {"workers": 17}}, "spec.metering.workers"),
    ({"metering": {"mode": "Exporter", "workers": 1}}, "stall and workers are only allowed with mode Proxy"),
    (
        {"metering": {"workers": 2, "resources": {"limits": {"memory": "255Mi"}}}},
        "with several workers, resources.limits.memory must be at least 128Mi for each of them",
    ),
    ({"metering": {"tenants": [{"name": "a"}]}}, "tenants requires auth"),
    ({"metering": {"defaultTenant": {"requestsPerMinute": 0}}}, "spec.metering.defaultTenant.requestsPerMinute"),
    ({"metering": {"auth": {"secretRefs": []}}}, "spec.metering.auth.secretRefs"),
    ({"monitoring": {"mode": "Maybe"}}, "spec.monitoring.mode"),
    ({"models": [{"name": "a:1", "digest": "sha256:short"}]}, "digest"),
    ({"models": [{"name": "a:1", "source": {}}]}, "set exactly one of registry and gguf"),
    (
        {"models": [{"name": "a:1", "source": {"registry": {"host": "r", "repository": "b"}, "gguf": {"path": "/a"}}}]},
        "set exactly one of registry and gguf",
    ),
    ({"models": [{"name": "a:1", "source": {"gguf": {"path": "models/a.gguf"}}}]}, "source.gguf.path"),
    ({"models": [{"name": "a:1", "source": {"gguf": {"path": "/models/../a"}}}]}, "must not contain the parts . and .."),
    ({"models": [{"name": "a:1", "source": {"gguf": {"path": "/models/"}}}]}, "source.gguf.path"),
    ({"models": [{"name": "a:1", "source": {"gguf": {"path": "/volumes/a.gguf"}}}]}, "must be below the mountPath of one"),
    (
        {
            "models": [{"name": "a:1", "source": {"gguf": {"path": "/volumes-2/a.gguf"}}}],
            "pod": {
                "volumes": [{"name": "a", "emptyDir": {}}],
                "ollamaVolumeMounts": [{"name": "a", "mountPath": "/volumes"}],
            },
        },
        "must be below the mountPath of one",
    ),
    ({"models": [{"name": "a:1", "modelfile": {}}]}, "set exactly one of inline and configMapKeyRef"),
    (
        {"models": [{"name": "a:1", "modelfile": {"inline": "FROM b", "configMapKeyRef": {"name": "a", "key": "b"}}}]},
        "set exactly one of inline and configMapKeyRef",
    ),
    ({"models": [{"name": "a:1", "modelfile": {"inline": "SYSTEM Be from Mars."}}]}, "a Modelfile needs a FROM"),
    ({"models": [{"name": "a:1", "modelfile": {"inline": "FROM b:1" + " " * 65536}}]}, "modelfile.inline"),
    (
        {"models": [{"name": f"a:{n}", "modelfile": {"inline": "FROM b:1" + " " * 65000}} for n in range(5)]},
        "all inline Modelfiles together",
    ),
    ({"models": [{"name": "a:1", "modelfile": {"configMapKeyRef": {"name": "a", "key": "a/b"}}}]}, "configMapKeyRef.key"),
    (
        {"storage": {"type": "ExistingClaim", "claimName": "a", "retentionPolicy": {"whenModelRemoved": "Delete"}}},
        "is not allowed with type ExistingClaim",
    ),
    (
        {"storage": {"retentionPolicy": {"whenModelRemoved": "Delete"}}, "metering": {"modelManagement": "Allowed"}},
        "is not allowed with metering.modelManagement: Allowed",
    ),
    (
        {"storage": {"retentionPolicy": {"whenModelRemoved": "Delete"}}, "metering": {"mode": "Exporter"}},
        "is not allowed with metering.modelManagement: Allowed or metering.mode: Exporter",
    ),
    # One model under two names, as Ollama compares names.
    ({"models": [{"name": "tiny:latest"}, {"name": "library/tiny:latest"}]}, "two names are one model"),
    ({"models": [{"name": "tiny:latest"}, {"name": "Tiny:Latest"}]}, "two names are one model"),
    ({"models": [{"name": "a/b:1"}, {"name": "registry.ollama.ai/A/b:1"}]}, "two names are one model"),
    ({"models": [{"name": "b:1"}, {"name": "registry.ollama.ai/library/b:1"}]}, "two names are one model"),
    # What the API server would refuse on a child.
    ({"pod": {"labels": {"team": "ML Platform"}}}, "spec.pod.labels.team"),
    ({"pod": {"labels": {"team": "x" * 64}}}, "spec.pod.labels.team"),
    ({"pod": {"labels": {"a b": "x"}}}, "each key of a label must be valid"),
    ({"pod": {"labels": {"A.b/c": "x"}}}, "each key of a label must be valid"),
    *(
        ({field: {"labels": {"team": "a", label: "x"}}}, f"spec.{field}.labels: Invalid value: the operator sets the labels")
        for field in ("pod", "monitoring")
        for label in OWN_LABELS
    ),
    *(
        ({"pod": {"labels": {"team": "a", label: "x"}}}, "spec.pod.labels: Invalid value: the StatefulSet controller sets")
        for label in ("controller-revision-hash", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index")
    ),
    ({"pod": {"annotations": {"a/b/c": "x"}}}, "each key of an annotation must be valid"),
    ({"pod": {"annotations": {"x" * 64: "x"}}}, "each key of an annotation must be valid"),
    ({"pod": {"nodeSelector": {"not a label": "x"}}}, "each key of a label must be valid"),
    ({"service": {"annotations": {"-a": "x"}}}, "each key of an annotation must be valid"),
    ({"monitoring": {"labels": {"release": "a b"}}}, "spec.monitoring.labels.release"),
    ({"pod": {"priorityClassName": "Very High"}}, "spec.pod.priorityClassName"),
    ({"pod": {"imagePullSecrets": [{"name": "my_secret"}]}}, "spec.pod.imagePullSecrets"),
    ({"gpu": {"runtimeClassName": "a/b"}}, "spec.gpu.runtimeClassName"),
    ({"ollama": {"image": "ollama/ollama: latest"}}, "spec.ollama.image"),
    ({"pod": {"tolerations": [{"value": "x"}]}}, "key is required unless operator is Exists"),
    ({"pod": {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}}, "value may only be set if operator is Equal"),
    ({"pod": {"tolerations": [{"key": "a", "value": "x", "tolerationSeconds": 3}]}}, "may only be set if effect is NoExecute"),
    ({"pod": {"tolerations": [{"key": "a b", "value": "x"}]}}, "spec.pod.tolerations[0].key"),
    ({"ollama": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}, "a request must not be above the limit"),
    ({"metering": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}}, "a request must not be above the limit"),
    ({"ollama": {"resources": {"requests": {"a.example/b": 1}, "limits": {"a.example/b": 2}}}}, "of an extended resource, such as a GPU, must be equal"),
    ({"ollama": {"resources": {"requests": {"gpu": 1}}}}, "requests may name cpu, memory"),
    ({"gpu": {"count": 1}, "ollama": {"resources": {"limits": {"nvidia.com/gpu": 2}}}}, "set the number of GPUs in gpu.count"),
    ({"ollama": {"resources": {"requests": {"nvidia.com/gpu": 2}}}}, "set the number of GPUs in gpu.count"),
    ({"gpu": {"resource": "amd.com/gpu"}, "ollama": {"resources": {"limits": {"amd.com/gpu": 4}}}}, "set the number of GPUs in gpu.count"),
    ({"gpu": {"resourceClaims": [CLAIM]}, "ollama": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "set the number of GPUs in gpu.count"),
    ({"gpu": {"count": 0}, "ollama": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "set the number of GPUs in gpu.count"),
    ({"ollama": {"resources": {"limits": {"nvidia.com/gpu": "500m"}}}}, "Invalid value: set the number of GPUs in gpu.count"),
    ({"gpu": {"resource": "gpu"}}, "spec.gpu.resource"),
    ({"gpu": {"resource": "a.example/-b"}}, "spec.gpu.resource"),
    ({"gpu": {"resource": "node.kubernetes.io/gpu"}}, "must be an extended resource"),
    ({"gpu": {"resource": "requests.example/gpu"}}, "must be an extended resource"),
    ({"gpu": {"resource": "gpu.intel.com/xe", "products": ["X"]}}, "products requires a resource of nvidia.com or amd.com"),
    ({"gpu": {"count": 0, "products": ["X"]}}, "with count 0, the models run on the CPU"),
    ({"gpu": {"count": 0, "requireFullOffload": True}}, "with count 0, the models run on the CPU"),
    ({"gpu": {"count": 0, "resource": "nvidia.com/gpu"}}, "with count 0, the models run on the CPU"),
    ({"gpu": {"count": 1, "resourceClaims": [CLAIM]}}, "resourceClaims replaces count and resource"),
    ({"gpu": {"resource": "nvidia.com/gpu", "resourceClaims": [CLAIM]}}, "resourceClaims replaces count and resource"),
    ({"gpu": {"products": ["X"], "resourceClaims": [CLAIM]}}, "products may not be set with resourceClaims"),
    ({"gpu": {"resourceClaims": [{"name": "gpu"}]}}, "set exactly one of resourceClaimTemplateName and"),
    ({"gpu": {"resourceClaims": [{**CLAIM, "resourceClaimName": "one"}]}}, "set exactly one of resourceClaimTemplateName and"),
    ({"gpu": {"resourceClaims": [CLAIM, CLAIM]}}, "spec.gpu.resourceClaims: duplicate entries"),
    ({"gpu": {"resourceClaims": [{**CLAIM, "name": "My GPU"}]}}, "spec.gpu.resourceClaims[0].name"),
    ({"gpu": {"resourceClaims": [{**CLAIM, "request": "first request"}]}}, "spec.gpu.resourceClaims[0].request"),
    ({"ollama": {"caBundleRef": {"name": "ca"}}}, "spec.ollama.caBundleRef.key"),
    ({"ollama": {"caBundleRef": {"name": "ca", "key": "a/b"}}}, "spec.ollama.caBundleRef.key"),
    ({"ollama": {"caBundleRef": {"name": "my_ca", "key": "a"}}}, "spec.ollama.caBundleRef.name"),
    *(
        ({"ollama": {"caBundleRef": {"name": "ca", "key": "a"}, "env": [{"name": name, "value": "/x"}]}}, "caBundleRef sets SSL_CERT_DIR")
        for name in ("SSL_CERT_DIR", "SSL_CERT_FILE")
    ),
    *(
        ({"monitoring": {"mode": mode, **field}}, "interval and labels are properties of a ServiceMonitor or PodMonitor")
        for mode in ("None", "Annotations")
        for field in ({"interval": "30s"}, {"labels": {"release": "p"}})
    ),
    ({"ollama": {"resources": {"limits": {"memory": "-1Gi"}}}}, "spec.ollama.resources.limits.memory"),
    ({"ollama": {"resources": {"limits": {"memory": "1 Gi"}}}}, "spec.ollama.resources.limits.memory"),
    ({"storage": {"size": "0Gi"}}, "size must be greater than zero"),
    # Ingress, HTTPRoute and NetworkPolicy
    ({"ingress": {}}, "spec.ingress.host: Required value"),
    ({"ingress": {"host": "LLM.example.com"}}, "spec.ingress.host"),
    ({"ingress": {"host": "llm.example.com:443"}}, "spec.ingress.host"),
    ({"ingress": {"host": "a.*.example.com"}}, "spec.ingress.host"),
    ({"ingress": {"host": "192.0.2.1"}}, "must be a host name, not an IP address"),
    ({"ingress": {"host": "a.example", "className": "Public Nginx"}}, "spec.ingress.className"),
    ({"ingress": {"host": "a.example", "tlsSecretName": "my_secret"}}, "spec.ingress.tlsSecretName"),
    ({"ingress": {"host": "a.example", "annotations": {"-a": "x"}}}, "each key of an annotation must be valid"),
    ({"httpRoute": {"hostnames": ["a.example"]}}, "spec.httpRoute.parentRefs: Required value"),
    ({"httpRoute": {"parentRefs": []}}, "spec.httpRoute.parentRefs"),
    ({"httpRoute": {"parentRefs": [{"name": "public"}, {"name": "public"}]}}, "need different values of sectionName"),
    ({"httpRoute": {"parentRefs": [{"name": "a", "kind": "Gateway"}, {"name": "a"}]}}, "need different values of sectionName"),
    ({"httpRoute": {"parentRefs": [{"name": "a", "sectionName": "x"}, {"name": "a", "port": 80}]}}, "need different values of sectionName"),
    ({"httpRoute": {"parentRefs": [{"name": "a", "port": 0}]}}, "spec.httpRoute.parentRefs[0].port"),
    ({"httpRoute": {"parentRefs": [{"name": "a", "namespace": "a.b"}]}}, "spec.httpRoute.parentRefs[0].namespace"),
    ({"httpRoute": {"parentRefs": [{"name": "a"}], "hostnames": ["10.0.0.1"]}}, "must be a host name, not an IP address"),
    ({"httpRoute": {"parentRefs": [{"name": "a"}], "hostnames": ["a.b", "a.b"]}}, ".spec.httpRoute.hostnames: duplicate entries"),
    ({"networkPolicy": {"from": []}}, "spec.networkPolicy.from"),
    ({"networkPolicy": {"from": [{}]}}, "set podSelector, namespaceSelector or both, or ipBlock"),
    (
        {"networkPolicy": {"from": [{"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}}]}},
        "ipBlock may not be set together with",
    ),
    ({"networkPolicy": {"from": [{"ipBlock": {"cidr": "192.0.2.300/24"}}]}}, "spec.networkPolicy.from[0].ipBlock.cidr"),
    ({"networkPolicy": {"from": [{"ipBlock": {"cidr": "192.0.2.0/33"}}]}}, "spec.networkPolicy.from[0].ipBlock.cidr"),
    ({"networkPolicy": {"from": [{"ipBlock": {"cidr": "::1"}}]}}, "spec.networkPolicy.from[0].ipBlock.cidr"),
    ({"networkPolicy": {"enabled": False, "from": [{"podSelector": {}}]}}, "from has no effect if enabled is false"),
    (
        {"networkPolicy": {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}},
        "values is required if operator is In or NotIn",
    ),
    (
        {"networkPolicy": {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}]}},
        "and may not be set otherwise",
    ),
    ({"networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"a b": "x"}}}]}}, "each key of a label must be valid"),
    ({"networkPolicy": {"from": [{"podSelector": {"matchExpressions": [{"key": "a b", "operator": "Exists"}]}}]}}, "matchExpressions[0].key"),
    ({"replicas": 2, "autoscaling": {"maxReplicas": 3}}, "replicas and autoscaling cannot be set together"),
    ({"autoscaling": {}}, "spec.autoscaling.maxReplicas: Required value"),
    ({"autoscaling": {"minReplicas": 0, "maxReplicas": 3}}, "spec.autoscaling.minReplicas"),
    ({"autoscaling": {"minReplicas": 4, "maxReplicas": 3}}, "maxReplicas must be at least minReplicas"),
    ({"autoscaling": {"maxReplicas": 1001}}, "spec.autoscaling.maxReplicas"),
    ({"autoscaling": {"maxReplicas": 3, "targetUtilization": "0%"}}, "spec.autoscaling.targetUtilization"),
    ({"autoscaling": {"maxReplicas": 3, "targetUtilization": "101%"}}, "spec.autoscaling.targetUtilization"),
    ({"autoscaling": {"maxReplicas": 3, "requestsWaiting": 0}}, "spec.autoscaling.requestsWaiting"),
    ({"autoscaling": {"maxReplicas": 3, "scaleDownDelay": "61m"}}, "scaleDownDelay must be at most 1h"),
    ({"autoscaling": {"maxReplicas": 3, "scaleDownDelay": "soon"}}, "spec.autoscaling.scaleDownDelay"),
    ({"autoscaling": {"maxReplicas": 3}, "metering": {"mode": "Exporter"}}, "autoscaling requires metering.mode Proxy"),
    ({"disruptionBudget": {}}, "spec.disruptionBudget.minAvailable: Required value"),
    ({"disruptionBudget": {"minAvailable": 0}}, "minAvailable must be a percentage such as 50% or a number from 1"),
    ({"disruptionBudget": {"minAvailable": 1001}}, "minAvailable must be a percentage such as 50% or a number from 1"),
    ({"disruptionBudget": {"minAvailable": "1"}}, "spec.disruptionBudget.minAvailable"),
    ({"disruptionBudget": {"minAvailable": "0%"}}, "spec.disruptionBudget.minAvailable"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), ENDPOINTS)
def test_a_wrong_endpoint_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=re.escape(sentence)):
        api.apply(endpoint("wrong", **change))


@pytest.mark.parametrize("name", ["a" * 41, "1abc", "a.b"])
def test_a_name_that_children_could_not_carry_is_refused(api: Any, name: str) -> None:
    with pytest.raises(ApiException, match="at most 40 characters"):
        api.apply(endpoint(name))


def test_autoscaling_can_only_be_removed_with_a_number_of_replicas(api: Any) -> None:
    api.apply(endpoint("assistant", autoscaling={"maxReplicas": 3}))
    with pytest.raises(ApiException, match="set replicas when you remove autoscaling"):
        api.apply(endpoint("assistant"))
    api.apply(endpoint("assistant", replicas=3))
    api.apply(endpoint("assistant"))


ACCEPTED: list[dict[str, Any]] = [
    {"models": [{"name": "tiny:latest"}, {"name": "tiny:1b"}, {"name": "library/other:latest"}]},
    # Not Ollama's default host: `registry.ollama.ai` is a namespace here.
    {"models": [{"name": "tiny:latest"}, {"name": "registry.ollama.ai/tiny:latest"}]},
    {"models": [{"name": f"a-rather-long-name-of-a-model-{index:03}:latest"} for index in range(32)]},
    {"models": [{"name": "a:1"}, {"name": "b:1", "load": "OnDemand"}], "ollama": {"maxLoadedModels": 1}, "gpu": {"requireFullOffload": True}},
    {"models": [{"name": "llmendpoint:1"}, {"name": "r.example/llmendpoint/a:1"}]},
    {"monitoring": {"interval": "1s"}},
    {"monitoring": {"interval": "60m"}},
    # A scheduler's resource for parts of the GPUs, which are counted by gpu.count.
    {"gpu": {"count": 1}, "ollama": {"resources": {"limits": {"nvidia.com/gpumem": 3000, "nvidia.com/gpu": 1}}}},
    {"models": [{"name": "hf.co/_user/m-.1:Q4_K_M"}, {"name": "r.example:5000/a/b:1"}]},
    *(
        {"models": [{"name": "a:1", "source": {"registry": {"host": host, "repository": "a"}}}]}
        for host in ("r.e:65535", "localhost:1", "Registry.example", "192.0.2.1:5000")
    ),
    *(
        {"ollama": {"image": image}}
        for image in ("ollama", "o:1", "[2001:db8::1]:5000/a/b_c__d--e.f:V_1.-", "localhost:5000/a",
                      f"R.example/a:1@sha256:{'0' * 64}", f"a@sha256:{'0' * 64}")
    ),
    {"ollama": {"kvCacheType": "f16", "flashAttention": False, "keepAlive": "0s"}},
    {"ollama": {"kvCacheType": "q4_0"}},
    {"metering": {"timeouts": {"firstByte": "720h", "idle": "43200m"}, "stall": {"after": "720h"}}, "ollama": {"keepAlive": "720h"}},
    {"metering": {"timeouts": {"connect": "1ms", "firstByte": "10h"}, "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}},
    {"metering": {"allowedHosts": ["*", "*.Example.com", "localhost", "a_b.example.", "192.0.2.1", "[::1]"]}},
    *(
        {"storage": {**storage, "retentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}}
        for storage in ({"type": "Ephemeral"}, {"type": "ExistingClaim", "claimName": "a"})
    ),
    {"storage": {"size": "1Pi"}},
    {"storage": {"storageClassName": ""}},
    {"storage": {"size": "1e3"}},
    {"storage": {"size": "1.5Ti"}},
    {"storage": {"size": 10**12}},
    {"storage": {"type": "Ephemeral", "sizeLimit": "1E"}},
    {"ollama": {"resources": {"requests": {"cpu": ".5", "memory": "1e9"}, "limits": {"cpu": "1", "memory": "1Gi"}}}},
    {"ollama": {"resources": {"requests": {"cpu": "100u"}, "limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}}}},
    {"gpu": {"count": 2}, "ollama": {"resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": 2}}}},
    {"gpu": {"resource": "nvidia.com/mig-1g.10gb", "products": ["NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"]}},
    {"gpu": {"resource": "amd.com/gpu", "products": ["AMD_Instinct_MI300X_OAM"]}},
    {"gpu": {"count": 0, "products": [], "requireFullOffload": False, "runtimeClassName": "runc"}},
    {"gpu": {"resourceClaims": [CLAIM, {"name": "other", "resourceClaimName": "one", "request": "first"}], "requireFullOffload": True}},
    {"gpu": {"count": 1, "resource": "nvidia.com/gpu", "resourceClaims": []}},
    {"ollama": {"caBundleRef": {"name": "ca", "key": "ca.crt"}, "env": [{"name": "HTTPS_PROXY", "value": "http://p:3128"}]}},
    {"monitoring": {"mode": "Annotations", "labels": {}}},
    {"monitoring": {"mode": "PodMonitor", "interval": "30s", "labels": {"release": "p"}}},
    {"pod": {"labels": {"llmendpoint.dev": "x", "not.llmendpoint.dev/a": "x", "app.kubernetes.io/part-of": "x"}}},
    {"pod": {"labels": {"a.b/c": "D_e.f", "empty": ""}, "annotations": {"A.b/c": "any text: ä", "prometheus.io/port": "1"}}},
    {"pod": {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "", "effect": "NoExecute", "tolerationSeconds": 3}]}},
    {"autoscaling": {"maxReplicas": 1, "targetUtilization": "100%", "scaleDownDelay": "1h", "requestsWaiting": 4}},
    {"autoscaling": {"minReplicas": 3, "maxReplicas": 3, "targetUtilization": "1%", "scaleDownDelay": "0s"}},
    {"metering": {"workers": 16}},
    {"metering": {"workers": 2, "resources": {"limits": {"cpu": 2}}}},
    {"metering": {"workers": 2, "resources": {"limits": {"memory": "256Mi"}}}},
    {"metering": {"workers": 1, "resources": {"limits": {"memory": "120Mi"}}}},
    {"disruptionBudget": {"minAvailable": 1}},
    {"disruptionBudget": {"minAvailable": "100%"}},
]  # fmt: skip


@pytest.mark.parametrize("spec", ACCEPTED)
def test_what_kubernetes_accepts_is_accepted(api: Any, spec: dict[str, Any]) -> None:
    api.apply(endpoint("right", **spec))


# (before, after): `storage` of one object
SAME: list[tuple[Any, Any]] = [
    (None, {"type": "PersistentVolumeClaim"}),
    (None, {"size": "50Gi", "retentionPolicy": {"whenDeleted": "Retain"}}),
    ({"size": "1Gi"}, {"size": "1024Mi"}),
    ({"type": "Ephemeral"}, {"type": "Ephemeral"}),
    ({"storageClassName": ""}, {"storageClassName": "", "size": "50Gi"}),
]
# A larger size, and another retention.
ALLOWED: list[tuple[Any, Any]] = [
    (None, {"size": "100Gi"}),
    ({"size": "5Gi"}, None),
    ({"size": "5Gi"}, {"size": "9Gi"}),
    (None, {"retentionPolicy": {"whenDeleted": "Delete"}}),
    ({"retentionPolicy": {"whenScaled": "Delete"}}, None),
]
SHRUNK: list[tuple[Any, Any]] = [
    (None, {"size": "49Gi"}),
    ({"size": "51Gi"}, None),
    ({"size": "1Ti"}, {"size": "999Gi"}),
]
CHANGED: list[tuple[Any, Any]] = [
    (None, {"storageClassName": "fast"}),
    ({"storageClassName": "fast"}, {}),
    # Without a class is something else than with the default class.
    (None, {"storageClassName": ""}),
    ({"storageClassName": ""}, None),
    (None, {"type": "Ephemeral"}),
    ({"type": "Ephemeral"}, None),
    ({"type": "Ephemeral"}, {"type": "Ephemeral", "sizeLimit": "1Gi"}),
    ({"type": "ExistingClaim", "claimName": "a"}, {"type": "ExistingClaim", "claimName": "b"}),
    ({"type": "ExistingClaim", "claimName": "a"}, None),
    ({"size": "60Gi"}, {"size": "70Gi", "storageClassName": "fast"}),
]


@pytest.mark.parametrize(("before", "after"), SAME)
def test_storage_may_be_written_in_another_way(api: Any, before: Any, after: Any) -> None:
    api.apply(endpoint("fixed", storage=before))
    api.apply(endpoint("fixed", storage=after))


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_storage_may_grow_and_be_retained_in_another_way(api: Any, before: Any, after: Any) -> None:
    api.apply(endpoint("fixed", storage=before))
    api.apply(endpoint("fixed", storage=after))


@pytest.mark.parametrize(("before", "after"), SHRUNK)
def test_storage_cannot_shrink(api: Any, before: Any, after: Any) -> None:
    api.apply(endpoint("fixed", storage=before))
    with pytest.raises(ApiException, match=re.escape("storage.size may only grow")):
        api.apply(endpoint("fixed", storage=after))


@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_storage_cannot_be_changed_added_or_removed(api: Any, before: Any, after: Any) -> None:
    api.apply(endpoint("fixed", storage=before))
    with pytest.raises(ApiException, match="storage cannot be changed"):
        api.apply(endpoint("fixed", storage=after))
    api.apply(endpoint("fixed", storage=before, replicas=2))


def test_the_removal_of_models_can_be_changed_at_any_time(api: Any) -> None:
    for action in ("Delete", "Retain", "Delete"):
        changed = api.apply(endpoint("removing", storage={"retentionPolicy": {"whenModelRemoved": action}}))
        assert changed["spec"]["storage"]["retentionPolicy"]["whenModelRemoved"] == action


# Values that an older schema accepted.
STORED: list[dict[str, Any]] = [
    {"pod": {"labels": {"llmendpoint.dev/endpoint": "other"}}},
    {"pod": {"labels": {"team": "ML Platform"}}},
    {"pod": {"annotations": {"a/b/c": "x"}}},
    {"pod": {"tolerations": [{"value": "x"}]}},
    {"ollama": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}},
    {"models": [{"name": "tiny:latest"}, {"name": "library/tiny:latest"}]},
    {"pod": {"priorityClassName": "Very High"}},
]


def relaxed(schema: Any) -> Any:
    """Return a schema without rules and patterns."""
    if isinstance(schema, list):
        return [relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: relaxed(item) for name, item in schema.items() if name not in ("x-kubernetes-validations", "pattern")}


def test_an_object_that_was_stored_before_a_rule_can_still_be_edited(api: Any) -> None:
    """The API server does not validate unchanged values again (CRD validation ratcheting, Kubernetes 1.30)."""
    crd = api.client.get("CustomResourceDefinition", "", "llmendpoints.llmendpoint.dev")
    body = {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "metadata": {"name": "ratchets.ratchet.example"},
            "spec": copy.deepcopy(crd["spec"])}  # fmt: skip
    body["spec"] |= {
        "group": "ratchet.example",
        "names": {"kind": "Ratchet", "plural": "ratchets", "singular": "ratchet"},
    }
    strict = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    path = f"/apis/ratchet.example/v1alpha1/namespaces/{api.namespace}/ratchets/"

    def install(schema: Any) -> None:
        body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
        api.client.apply(body)

    def write(name: str, **spec: Any) -> None:
        made = {**endpoint(name, **spec), "apiVersion": "ratchet.example/v1alpha1", "kind": "Ratchet"}
        query = [("fieldManager", "test"), ("force", "true")]
        api.client.request("PATCH", path + name, query, made, "application/apply-patch+yaml")

    def is_accepted(name: str, **spec: Any) -> bool:
        try:
            write(name, **spec)
        except ApiException:
            return False
        return True

    install(relaxed(strict))
    for index, spec in enumerate(STORED):
        wait_until(partial(is_accepted, f"stored-{index}", **spec))
    install(strict)
    # An object that is accepted before the API server has learned of the rules would be ratcheted too.
    numbers = itertools.count()
    wait_until(lambda: not is_accepted(f"probe-{next(numbers)}", **STORED[0]))
    for index, spec in enumerate(STORED):
        write(f"stored-{index}", replicas=3, **spec)
        assert not is_accepted(f"new-{index}", **spec)
    api.client.delete("CustomResourceDefinition", "", "ratchets.ratchet.example")
