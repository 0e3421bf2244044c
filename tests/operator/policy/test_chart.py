"""The chart's value `operator.policy` becomes the operator's policy file."""

from __future__ import annotations

import json
from typing import Any

import yaml

from llmendpoint_operator.policy.document import Policy, parse_policy
from support.documents.rendered import CHART, by_name, needs_helm, rendered

RULES = set(Policy.__struct_encode_fields__)


def objects_of(*flags: str) -> dict[str, Any]:
    """Return the objects of the chart."""
    return by_name(rendered(*flags))


def test_the_chart_has_a_value_for_each_rule_and_allows_everything() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["operator"]["policy"]
    assert values == dict.fromkeys(RULES)
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["operator"]["properties"]["policy"]
    assert set(schema["properties"]) == RULES
    assert schema["additionalProperties"] is False


@needs_helm
def test_without_a_policy_there_is_no_file() -> None:
    objects = objects_of()
    assert "ConfigMap/llmendpoint-policy" not in objects
    assert "--policy" not in json.dumps(objects["Deployment/llmendpoint"])


@needs_helm
def test_the_file_of_the_chart_is_the_policy_of_the_operator() -> None:
    path = CHART / "ci/policy-values.yaml"
    objects = objects_of("--values", str(path))
    policy = parse_policy(objects["ConfigMap/llmendpoint-policy"]["data"]["policy.yaml"], "policy.yaml")
    given = yaml.safe_load(path.read_text())["operator"]["policy"]
    assert policy == parse_policy(yaml.safe_dump(given), "values.yaml")
    pod = objects["Deployment/llmendpoint"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--policy=/etc/llmendpoint/policy.yaml" in container["args"]
    assert {"name": "policy", "mountPath": "/etc/llmendpoint", "readOnly": True} in container["volumeMounts"]
    assert {"name": "policy", "configMap": {"name": "llmendpoint-policy"}} in pod["spec"]["volumes"]
    # The operator reads the file when it starts.
    other = objects_of("--values", str(path), "--set-json", 'operator.policy.secretNames=["other"]')
    checksums = [
        item["Deployment/llmendpoint"]["spec"]["template"]["metadata"]["annotations"]["checksum/policy"]
        for item in (objects, other)
    ]
    assert checksums[0] != checksums[1]


@needs_helm
def test_an_empty_list_is_a_rule() -> None:
    objects = objects_of("--set-json", "operator.policy.secretNames=[]")
    assert parse_policy(objects["ConfigMap/llmendpoint-policy"]["data"]["policy.yaml"], "p") == Policy(secret_names=())


@needs_helm
def test_a_policy_needs_no_further_rights() -> None:
    plain, strict = objects_of(), objects_of("--values", str(CHART / "ci/policy-values.yaml"))
    for name, item in plain.items():
        if "Role" in item["kind"]:
            assert strict[name] == item
