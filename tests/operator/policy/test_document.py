"""The policy file, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_common.api.endpoint.network import ServiceType
from llmendpoint_common.process.errors import PolicyError
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy, parse_policy, read_policy
from llmendpoint_operator.settings import parse_settings

TEXT = """
imagePrefixes: [docker.io/ollama/, "registry.example:5000/team"]
priorityClasses: [low]
serviceTypes: [LoadBalancer]
secretNames: ["llm-*"]
podLabelPrefixes: [example.com/]
podAnnotations: ["example.com/*"]
serviceAnnotations: []
targetHosts: ["*.models.svc"]
tolerationKeys: []
serviceAccountNames: [models]
claimNames: ["models-*"]
volumeTypes: [configMap]
podTemplateFields: ["dns*"]
"""


def test_every_rule_is_read() -> None:
    assert parse_policy(TEXT, "p") == Policy(
        image_prefixes=("docker.io/ollama/", "registry.example:5000/team"),
        priority_classes=("low",),
        service_types=(ServiceType.LOAD_BALANCER,),
        secret_names=("llm-*",),
        pod_label_prefixes=("example.com/",),
        pod_annotations=("example.com/*",),
        service_annotations=(),
        target_hosts=("*.models.svc",),
        toleration_keys=(),
        service_account_names=("models",),
        claim_names=("models-*",),
        volume_types=("configMap",),
        pod_template_fields=("dns*",),
    )


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "imagePrefixes:\nsecretNames: null\n"])
def test_rules_that_are_absent_allow_everything(text: str) -> None:
    assert parse_policy(text, "p") == ALLOW_ALL


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("images: []", "p: Object contains unknown field `images`"),
        ("imagePrefixes: docker.io/", "p: imagePrefixes: Expected `array | null`, got `str`"),
        ("imagePrefixes: [1]", "p: imagePrefixes[0]: Expected `str`, got `int`"),
        ('secretNames: [""]', "p: secretNames[0]: Expected `str` of length >= 1"),
        ('secretNames: ["a b"]', "p: secretNames[0]: Expected `str` matching regex"),
        ("serviceTypes: [ExternalName]", "p: serviceTypes[0]: Invalid enum value 'ExternalName'"),
        (
            "imagePrefixes: [ollama/]",
            "p: imagePrefixes[0]: 'ollama/' does not begin with a registry; write for example docker.io/ollama/",
        ),
        ("[]", "p: Expected `object`, got `array`"),
        ("imagePrefixes: [", "p:1: not valid YAML: "),
        ("a: b: c", "p:1: not valid YAML: "),
        ("a: !!python/object:os.system {}", "p:1: not valid YAML: "),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_field(text: str, sentence: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, "p")
    assert str(refused.value).startswith(sentence)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere: No such file"):
        read_policy(tmp_path / "nowhere")
    (tmp_path / "p").write_bytes(b"\xff")
    with pytest.raises(PolicyError, match=r"/p: not valid UTF-8"):
        read_policy(tmp_path / "p")


def test_the_operator_reads_the_file_of_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    assert parse_settings([f"--policy={path}"]).policy == parse_policy(TEXT, "p")
    assert parse_settings([]).policy == ALLOW_ALL
    path.write_text("images: []")
    with pytest.raises(SystemExit) as ended:
        parse_settings([f"--policy={path}"])
    assert ended.value.code == 2
    assert f"--policy: {path}: Object contains unknown field `images`" in capsys.readouterr().err
