"""The dashboard in the rendered chart: who may see it, what it may read, and the restricted pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import DASHBOARD_LABEL
from llmendpoint_dashboard.cluster.kinds import rules
from llmendpoint_dashboard.settings import parse_settings
from support.documents.rendered import CHART, by_name, needs_helm, rendered
from support.documents.restricted import assert_restricted

pytestmark = needs_helm

SCENARIOS = sorted((CHART / "ci").glob("dashboard-*values.yaml"))
ENABLED = ("--set", "dashboard.enabled=true,dashboard.auth.secretKeyRef.name=token")
NAME = "llmendpoint-dashboard"


def objects(*flags: str) -> dict[str, dict[str, Any]]:
    return by_name(rendered(*ENABLED, *flags))


def pod(*flags: str) -> dict[str, Any]:
    return dict(objects(*flags)[f"Deployment/{NAME}"]["spec"]["template"]["spec"])


def arguments(*flags: str) -> list[str]:
    (container,) = pod(*flags)["containers"]
    return list(container["args"])


def test_there_is_no_dashboard_by_default() -> None:
    labels = [item["metadata"]["labels"] for item in rendered() if item["kind"] != "CustomResourceDefinition"]
    assert "dashboard" not in {found.get("app.kubernetes.io/component") for found in labels}


def test_the_operator_is_not_changed_by_the_dashboard() -> None:
    without = by_name(rendered())
    assert {name: item for name, item in objects().items() if name in without and "-test" not in name} == {
        name: item for name, item in without.items() if "-test" not in name
    }


def test_everything_of_the_dashboard_has_its_component() -> None:
    added = {name: item for name, item in objects("--set", "networkPolicy.enabled=true").items() if NAME in name}
    assert {item["kind"] for item in added.values()} == {
        "Deployment", "Service", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "NetworkPolicy",
    }  # fmt: skip
    labels = [item["metadata"]["labels"]["app.kubernetes.io/component"] for item in added.values()]
    assert set(labels) == {"dashboard"}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("dashboard.enabled=true", r"Token requires dashboard\.auth\.secretKeyRef\.name.*kubectl --namespace"),
        (
            "dashboard.enabled=true,dashboard.auth.mode=None,dashboard.ingress.enabled=true,dashboard.ingress.host=a",
            r"None with dashboard\.ingress\.enabled.*set dashboard\.auth\.mode to Token or Header.*port-forward",
        ),
        (
            "dashboard.enabled=true,dashboard.auth.mode=None,dashboard.service.type=NodePort",
            r"None with dashboard\.service\.type NodePort.*set dashboard\.auth\.mode to Token or Header.*port-forward",
        ),
        (
            "dashboard.enabled=true,dashboard.auth.mode=None,dashboard.service.type=LoadBalancer",
            r"None with dashboard\.service\.type LoadBalancer",
        ),
        ("dashboard.enabled=true,dashboard.auth.mode=Header", r"requires dashboard\.auth\.header\.trustedProxies"),
        (
            "dashboard.enabled=true,dashboard.auth.secretKeyRef.name=a,dashboard.ingress.enabled=true",
            r"dashboard\.ingress\.enabled requires dashboard\.ingress\.host",
        ),
    ],
)
def test_an_open_or_incomplete_dashboard_is_refused_with_the_way_out(flags: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        rendered("--set", flags)


@pytest.mark.parametrize(
    "flag",
    [
        "dashboard.auth.mode=Basic", "dashboard.auth.token=secret", "dashboard.replicas=2", "dashboard.service.port=0",
        "dashboard.auth.header.trustedProxies={proxy}", r"dashboard.podLabels.llmendpoint\.dev/operator=evil",
        "dashboard.auth.header.name=a b",
    ],
)  # fmt: skip
def test_a_value_that_does_not_exist_or_is_wrong_is_refused(flag: str) -> None:
    with pytest.raises(AssertionError):
        objects("--set", flag)


def test_a_token_comes_from_a_file_of_the_secret() -> None:
    flags = ("--set", "dashboard.auth.secretKeyRef.key=password")
    assert "--auth=token" in arguments(*flags)
    assert "--auth-token-file=/etc/llmendpoint-dashboard/token" in arguments(*flags)
    spec = pod(*flags)
    (volume,) = [item for item in spec["volumes"] if "secret" in item]
    assert volume["secret"]["secretName"] == "token"
    assert volume["secret"]["items"] == [{"key": "password", "path": "token"}]
    # Only the user of the container reads it, as a member of the group.
    assert volume["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    (mount,) = [item for item in spec["containers"][0]["volumeMounts"] if item["name"] == volume["name"]]
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/llmendpoint-dashboard", True)


def test_a_header_is_trusted_from_the_addresses_of_the_proxy_alone() -> None:
    flags = ("--set", "dashboard.auth.mode=Header", "--set-json", 'dashboard.auth.header.trustedProxies=["10.0.0.0/8"]')
    found = arguments(*flags)
    assert {"--auth=header", "--auth-header=X-Forwarded-User", "--auth-proxy=10.0.0.0/8"} <= set(found)
    assert "secret" not in json.dumps(pod(*flags)["volumes"])


def test_without_authentication_only_the_cluster_reaches_it() -> None:
    flags = ("--set", "dashboard.auth.mode=None")
    assert {"--auth=none", "--allow-unauthenticated", f"--allowed-host={NAME}.llmendpoint-system.svc"} <= set(
        arguments(*flags)
    )
    assert objects(*flags)[f"Service/{NAME}"]["spec"]["type"] == "ClusterIP"
    assert "--allow-unauthenticated" not in arguments()


def test_it_reads_our_resources_and_writes_nothing() -> None:
    found = objects()[f"ClusterRole/{NAME}"]["rules"]
    assert found == rules()
    assert {verb for rule in found for verb in rule["verbs"]} == {"list", "watch"}
    assert {name for rule in found for name in rule["resources"]} == {
        "llmendpoints", "loadtests", "loadtestschedules", "endpointslices",
    }  # fmt: skip


def test_a_dashboard_of_some_namespaces_has_roles_alone() -> None:
    flags = ("--set", "operator.watchNamespaces={a,b}")
    found = objects(*flags)
    assert not [item for item in found.values() if item["kind"].startswith("ClusterRole")]
    for namespace in ("a", "b"):
        assert found[f"Role/{namespace}/{NAME}"]["rules"] == rules()
        (subject,) = found[f"RoleBinding/{namespace}/{NAME}"]["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": NAME, "namespace": "llmendpoint-system"}
    assert {"--namespace=a", "--namespace=b"} <= set(arguments(*flags))
    assert not [item for item in arguments() if item.startswith("--namespace")]


def test_without_rbac_create_no_rights_are_given() -> None:
    assert not [name for name in objects("--set", "rbac.create=false") if "Role" in name]


def test_the_pod_is_restricted_and_requests_what_it_uses() -> None:
    spec = pod()
    # It watches the cluster, for which it needs the token of its own ServiceAccount.
    assert spec["serviceAccountName"] == NAME
    assert_restricted({**spec, "automountServiceAccountToken": False})
    (container,) = spec["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_the_networks_policies_of_endpoints_know_its_pods() -> None:
    labels = objects("--set", r"dashboard.podLabels.team=a")[f"Deployment/{NAME}"]["spec"]["template"]["metadata"][
        "labels"
    ]
    assert labels[DASHBOARD_LABEL] == "true"
    assert labels["team"] == "a"


def test_its_service_leads_to_its_pods_alone() -> None:
    found = objects()
    selector = found[f"Service/{NAME}"]["spec"]["selector"]
    template = found[f"Deployment/{NAME}"]["spec"]["template"]["metadata"]["labels"]
    operator = found["Deployment/llmendpoint"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= template.items()
    assert not selector.items() <= operator.items()


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.stem)
def test_the_dashboard_understands_its_flags(values: Path) -> None:
    found = rendered("--values", str(values))
    pods = [item["spec"]["template"]["spec"] for item in found if item["kind"] == "Deployment"]
    (container,) = [container for pod in pods for container in pod["containers"] if container["name"] == "dashboard"]
    settings = parse_settings(container["args"], environment={})
    assert settings.cluster is not None
    assert settings.listen.port == 3001


def test_prometheus_is_passed_on() -> None:
    assert "--prometheus=http://p:9090" in arguments("--set", "prometheus.url=http://p:9090")
    assert not [item for item in arguments() if item.startswith("--prometheus")]


def test_the_ingress_streams_and_has_the_given_annotations() -> None:
    flags = (
        "--set", "dashboard.ingress.enabled=true,dashboard.ingress.host=llm.example.com,dashboard.ingress.tlsSecretName=tls",
        "--set", "dashboard.service.port=80",
        "--set-string", r"dashboard.ingress.annotations.nginx\.ingress\.kubernetes\.io/proxy-read-timeout=60",
    )  # fmt: skip
    ingress = objects(*flags)[f"Ingress/{NAME}"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "60"
    assert ingress["spec"]["tls"] == [{"hosts": ["llm.example.com"], "secretName": "tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "llm.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": NAME, "port": {"number": 80}}
    assert "ingressClassName" not in ingress["spec"]
    assert f"Ingress/{NAME}" not in objects()


def test_the_network_policy_allows_what_the_dashboard_needs() -> None:
    flags = ("--set", "networkPolicy.enabled=true,operator.watchNamespaces={a}")
    spec = objects(*flags)[f"NetworkPolicy/{NAME}"]["spec"]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 443, 6443, 8001}
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["http"]
    (pods,) = [rule["to"][0] for rule in spec["egress"] if "to" in rule]
    assert pods["namespaceSelector"]["matchExpressions"][0]["values"] == ["a"]
    assert pods["podSelector"]["matchLabels"] == {"app.kubernetes.io/managed-by": "llmendpoint"}
    prometheus = objects("--set", "networkPolicy.enabled=true,prometheus.url=http://p")[f"NetworkPolicy/{NAME}"]["spec"]
    assert prometheus["egress"][-1] == {"ports": [{"port": 9090, "protocol": "TCP"}]}


def test_browsers_of_given_peers_and_the_test_of_the_release_may_connect() -> None:
    flags = ("--set", "networkPolicy.enabled=true", "--set-json", 'networkPolicy.dashboardFrom=[{"podSelector": {}}]')
    found = objects(*flags)
    (rule,) = found[f"NetworkPolicy/{NAME}"]["spec"]["ingress"]
    labels = found["Pod/llmendpoint-test"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {}}, {"podSelector": {"matchLabels": labels}}]
    test_egress = found["NetworkPolicy/llmendpoint-test"]["spec"]["egress"]
    assert [item["to"] for item in test_egress if item["ports"][0]["port"] == "http"]


def test_the_test_of_the_release_asks_the_dashboard() -> None:
    def command(*flags: str) -> list[str]:
        return list(by_name(rendered(*flags))["Pod/llmendpoint-test"]["spec"]["containers"][0]["command"])

    assert f"--dashboard=http://{NAME}.llmendpoint-system:3001/readyz" in command(*ENABLED)
    assert not [item for item in command() if item.startswith("--dashboard")]


def test_on_openshift_no_user_is_fixed() -> None:
    context = pod("--set", "platform.openshift=true")["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_its_service_account_can_be_given() -> None:
    flags = ("--set", "dashboard.serviceAccount.create=false,dashboard.serviceAccount.name=mine")
    found = objects(*flags)
    assert pod(*flags)["serviceAccountName"] == "mine"
    assert f"ServiceAccount/{NAME}" not in found
    assert found[f"ClusterRoleBinding/{NAME}"]["subjects"][0]["name"] == "mine"


def test_the_plain_dashboard_can_be_added_to_the_plain_operator() -> None:
    folder = CHART.parents[1] / "manifests" / "dashboard"
    kinds = [line for line in (folder / "install.yaml").read_text().splitlines() if line.startswith("kind: ")]
    assert sorted(kinds) == [
        "kind: ClusterRole", "kind: ClusterRoleBinding", "kind: Deployment", "kind: Service", "kind: ServiceAccount",
    ]  # fmt: skip
    assert "kubectl --namespace llmendpoint-system create secret" in (folder / "kustomization.yaml").read_text()
