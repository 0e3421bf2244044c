"""The rendered chart: replicas, rights, pods, and flags that the operator understands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.contracts.cluster import COMPONENT_LABEL, OPERATOR_LABEL
from llmendpoint_operator.kube.pod_security import USER_ID
from llmendpoint_operator.kube.rbac import cluster_rules, namespace_rules, own_rules
from llmendpoint_operator.settings import Settings, parse_settings
from support.documents.rendered import CHART, by_name, needs_helm, rendered
from support.documents.restricted import assert_restricted

pytestmark = needs_helm

SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))


def pod(*flags: str) -> dict[str, Any]:
    """Return the spec of the operator's pods."""
    deployment = by_name(rendered(*flags))["Deployment/llmendpoint"]
    return dict(deployment["spec"]["template"]["spec"])


def of_operator(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the operator's object of a kind."""
    labelled = [item for item in objects if item["metadata"]["labels"].get(COMPONENT_LABEL) == "operator"]
    (found,) = [item for item in labelled if item["kind"] == kind]
    return found


def settings(*flags: str) -> Settings:
    """Return the settings of the operator that the chart starts."""
    (container,) = pod(*flags)["containers"]
    return parse_settings([item for item in container["args"] if not item.startswith("--policy=")])


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.stem)
def test_the_operator_understands_its_flags(values: Path) -> None:
    deployment = of_operator(rendered("--values", str(values)), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    parse_settings([item for item in container["args"] if not item.startswith("--policy=")])


def test_prices_without_the_rules_that_use_them_are_refused() -> None:
    prices = ("--set-string", "gpuHourlyPrices.NVIDIA-H200=3.50")
    with pytest.raises(AssertionError, match=r"gpuHourlyPrices has no effect with monitoring\.rules=Disabled"):
        rendered(*prices, "--set", "monitoring.rules=Disabled")
    assert rendered(*prices)


def test_keda_without_the_address_of_prometheus_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"autoscaling\.actuator KEDA requires prometheus\.url"):
        rendered("--set", "autoscaling.actuator=KEDA")
    flags = ("--set", "autoscaling.actuator=KEDA", "--set", "prometheus.url=http://prometheus:9090")
    assert settings(*flags).children.prometheus_url == "http://prometheus:9090"


def test_one_replica_hands_its_lease_to_the_next() -> None:
    objects = by_name(rendered())
    spec = objects["Deployment/llmendpoint"]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    (container,) = spec["template"]["spec"]["containers"]
    assert {"--leader-election", "--installation=llmendpoint"} <= set(container["args"])
    assert "PodDisruptionBudget/llmendpoint" not in objects


def test_several_replicas_have_a_disruption_budget_and_prefer_different_nodes() -> None:
    objects = by_name(rendered("--set", "operator.replicas=3"))
    labels = objects["Deployment/llmendpoint"]["spec"]["template"]["metadata"]["labels"]
    budget = objects["PodDisruptionBudget/llmendpoint"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    (term,) = pod("--set", "operator.replicas=3")["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    own = pod("--set", "operator.replicas=3", "--set-json", 'operator.affinity={"nodeAffinity": {}}')["affinity"]
    assert own == {"nodeAffinity": {}}


def test_the_probes_ask_different_questions() -> None:
    (container,) = pod()["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_the_image_for_amd_is_derived_or_given() -> None:
    digest = f"sha256:{'1' * 64}"
    assert settings().children.images.rocm == "docker.io/ollama/ollama:0.17.4-rocm"
    assert settings("--set", f"ollama.image.digest={digest}").children.images.rocm == ""
    given = ("--set", f"ollama.rocmImage.digest={digest}")
    assert settings(*given).children.images.rocm == f"docker.io/ollama/ollama@{digest}"
    mirror = ("--set", "ollama.rocmImage.registry=mirror.example")
    assert settings(*mirror).children.images.rocm == "mirror.example/ollama/ollama:0.17.4-rocm"


def test_an_operator_of_all_namespaces_has_a_cluster_role() -> None:
    objects = by_name(rendered())
    assert objects["ClusterRole/llmendpoint"]["rules"] == cluster_rules()
    assert objects["Role/llmendpoint-system/llmendpoint-own"]["rules"] == own_rules(cluster_wide=True)


def test_an_operator_of_some_namespaces_has_roles_alone() -> None:
    objects = by_name(rendered("--set", "operator.watchNamespaces={a,b}"))
    assert not [item for item in objects.values() if item["kind"].startswith("ClusterRole")]
    for namespace in ("a", "b"):
        assert objects[f"Role/{namespace}/llmendpoint"]["rules"] == namespace_rules()
        binding = objects[f"RoleBinding/{namespace}/llmendpoint"]
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"][0]["namespace"] == "llmendpoint-system"
    assert objects["Role/llmendpoint-system/llmendpoint-own"]["rules"] == own_rules(cluster_wide=False)
    assert settings("--set", "operator.watchNamespaces={a,b}").namespaces == ("a", "b")


def test_without_crds_no_object_is_cluster_scoped_in_a_namespaced_install() -> None:
    objects = rendered("--set", "operator.watchNamespaces={a},crds.install=false")
    assert all("namespace" in item["metadata"] for item in objects)


def test_on_openshift_no_user_is_fixed() -> None:
    flags = ("--set", "platform.openshift=true")
    assert str(USER_ID) in json.dumps(pod())
    # Descriptions in the CRDs name the user.
    objects = [item for item in rendered(*flags) if item["kind"] != "CustomResourceDefinition"]
    assert str(USER_ID) not in json.dumps(objects)
    context = pod(*flags)["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert settings(*flags).children.openshift


def test_labels_of_monitors_reach_the_operator() -> None:
    labels = {"release": "prometheus", "example.com/team": "ml"}
    flags = ("--set-json", f"monitoring.labels={json.dumps(labels)}")
    assert settings(*flags).children.monitor_labels == labels


@pytest.mark.parametrize(
    "name",
    [
        "llmendpoint.dev/endpoint",
        "llmendpoint.dev/team",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/component",
        "app.kubernetes.io/part-of",
        "helm.sh/chart",
    ],
)
def test_labels_of_monitors_that_the_operator_or_the_chart_sets_are_refused(name: str) -> None:
    with pytest.raises(AssertionError, match=f"monitoring.labels: {name} is a label that the chart and the operator"):
        rendered("--set-json", f"monitoring.labels={json.dumps({name: 'a'})}")


def test_a_label_of_monitors_that_no_label_can_be_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"monitoring\.labels|/monitoring/labels"):
        rendered("--set-json", 'monitoring.labels={"release": "a b"}')
    with pytest.raises(AssertionError, match="'-a' does not match pattern"):
        rendered("--set-json", 'monitoring.labels={"-a": "b"}')


def test_endpoints_let_the_pods_of_the_operator_and_of_the_monitoring_read_their_metrics() -> None:
    access = settings().children.metrics_access
    assert access.operator_namespace == "llmendpoint-system"
    assert access.namespaces == ("monitoring",)
    assert settings("--set-json", 'monitoring.namespaces=["*"]').children.metrics_access.all_namespaces
    assert settings("--set-json", "monitoring.namespaces=[]").children.metrics_access.namespaces == ()
    flags = ("--set-json", 'operator.podLabels={"team": "a"}')
    labels = by_name(rendered(*flags))["Deployment/llmendpoint"]["spec"]["template"]["metadata"]["labels"]
    assert labels[OPERATOR_LABEL] == "true"
    assert labels["team"] == "a"


def test_the_network_policy_allows_what_the_operator_needs() -> None:
    flags = ("--set", "networkPolicy.enabled=true,operator.watchNamespaces={a}")
    spec = by_name(rendered(*flags))["NetworkPolicy/llmendpoint"]["spec"]
    ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 6443, 8001}
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["metrics"]
    (pods,) = [rule["to"][0] for rule in spec["egress"] if "to" in rule]
    assert pods["namespaceSelector"]["matchExpressions"][0]["values"] == ["a"]
    assert pods["podSelector"]["matchLabels"] == {"app.kubernetes.io/managed-by": "llmendpoint"}
    everywhere = by_name(rendered("--set", "networkPolicy.enabled=true"))["NetworkPolicy/llmendpoint"]["spec"]
    assert everywhere["egress"][-1]["to"][0]["namespaceSelector"] == {}


def test_the_operator_pod_requests_what_it_uses() -> None:
    (container,) = pod()["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert "cpu" not in container["resources"]["limits"]
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod()["volumes"] if "emptyDir" in volume)


def test_a_scrape_limited_to_prometheus_allows_the_test_of_the_release() -> None:
    flags = ("--set", "networkPolicy.enabled=true", "--set-json", 'networkPolicy.metricsFrom=[{"podSelector": {}}]')
    objects = by_name(rendered(*flags))
    (rule,) = objects["NetworkPolicy/llmendpoint"]["spec"]["ingress"]
    assert rule["from"][0] == {"podSelector": {}}
    assert rule["from"][1]["podSelector"]["matchLabels"] == objects["Pod/llmendpoint-test"]["metadata"]["labels"]


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.stem)
def test_the_test_of_a_release_is_a_restricted_pod_of_the_operators_image(values: Path) -> None:
    objects = rendered("--values", str(values))
    (test,) = [item for item in objects if item["kind"] == "Pod"]
    deployment = of_operator(objects, "Deployment")["spec"]["template"]["spec"]
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    # It reads the kinds that the API server serves, for which it needs the token.
    assert_restricted({**test["spec"], "automountServiceAccountToken": False})
    # Kubernetes would expand this syntax in a command.
    assert "$(" not in json.dumps(test["spec"])
    assert test["spec"]["containers"][0]["image"] == deployment["containers"][0]["image"]
    assert test["spec"].get("imagePullSecrets") == deployment.get("imagePullSecrets")
    service = of_operator(objects, "Service")
    assert not service["spec"]["selector"].items() <= test["metadata"]["labels"].items()
    assert f"http://{service['metadata']['name']}." in json.dumps(test["spec"])


def test_the_plain_install_has_no_test() -> None:
    assert "helm.sh/hook" not in (CHART.parents[1] / "manifests" / "install.yaml").read_text()


@pytest.mark.parametrize(
    "flag",
    [
        "operator.replica=2", "operator.replicas=-1", "platform.openShift=true", "networkPolicy.enable=true",
        "operator.watchNamespaces={Bad_NS}", r"operator.podLabels.llmendpoint\.dev/operator=evil",
        r"operator.podLabels.app\.kubernetes\.io/name=evil",
    ],
)  # fmt: skip
def test_a_value_that_does_not_exist_or_is_wrong_is_refused(flag: str) -> None:
    command = ["helm", "template", "llmendpoint", str(CHART), "--kube-version", "1.29.0", "--set", flag]
    assert subprocess.run(command, check=False, capture_output=True).returncode


def test_the_schema_has_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm's own values have no default.
    assert set(schema["properties"]) - {"global", "enabled"} == set(values)
    for name, section in values.items():
        if isinstance(section, dict):
            assert set(schema["properties"][name].get("properties", {})) == set(section), name
