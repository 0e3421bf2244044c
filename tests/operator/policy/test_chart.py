"""The chart's value `operator.policy` becomes the operator's policy file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_operator.policy.document import Policy, parse_policy

CHART = Path(__file__).parents[3] / "charts/llmendpoint"
RULES = set(Policy.__struct_encode_fields__)

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")


def rendered(*flags: str) -> dict[str, Any]:
    """Return the objects of the chart, by "Kind/name"."""
    command = ["helm", "template", "llmendpoint", str(CHART), "--kube-version", "1.29.0", *flags]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    documents = [document for document in yaml.safe_load_all(text) if document]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in documents}


def test_the_chart_has_a_value_for_each_rule_and_allows_everything() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["operator"]["policy"]
    assert values == dict.fromkeys(RULES)
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["operator"]["properties"]["policy"]
    assert set(schema["properties"]) == RULES
    assert schema["additionalProperties"] is False


@needs_helm
def test_without_a_policy_there_is_no_file() -> None:
    objects = rendered()
    assert "ConfigMap/llmendpoint-policy" not in objects
    assert "--policy" not in json.dumps(objects["Deployment/llmendpoint"])


@needs_helm
def test_the_file_of_the_chart_is_the_policy_of_the_operator() -> None:
    path = CHART / "ci/policy-values.yaml"
    objects = rendered("--values", str(path))
    policy = parse_policy(objects["ConfigMap/llmendpoint-policy"]["data"]["policy.yaml"], "policy.yaml")
    given = yaml.safe_load(path.read_text())["operator"]["policy"]
    assert policy == parse_policy(yaml.safe_dump(given), "values.yaml")
    pod = objects["Deployment/llmendpoint"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--policy=/etc/llmendpoint/policy.yaml" in container["args"]
    assert {"name": "policy", "mountPath": "/etc/llmendpoint", "readOnly": True} in container["volumeMounts"]
    assert {"name": "policy", "configMap": {"name": "llmendpoint-policy"}} in pod["spec"]["volumes"]
    # The operator reads the file when it starts.
    other = rendered("--values", str(path), "--set-json", 'operator.policy.secretNames=["other"]')
    checksums = [
        item["Deployment/llmendpoint"]["spec"]["template"]["metadata"]["annotations"]["checksum/policy"]
        for item in (objects, other)
    ]
    assert checksums[0] != checksums[1]


@needs_helm
def test_an_empty_list_is_a_rule() -> None:
    objects = rendered("--set-json", "operator.policy.secretNames=[]")
    assert parse_policy(objects["ConfigMap/llmendpoint-policy"]["data"]["policy.yaml"], "p") == Policy(secret_names=())


@needs_helm
def test_a_policy_needs_no_further_rights() -> None:
    plain, strict = rendered(), rendered("--values", str(CHART / "ci/policy-values.yaml"))
    for name, item in plain.items():
        if "Role" in item["kind"]:
            assert strict[name] == item
