"""Security contexts of pods: a fixed user, or none if the platform assigns one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.api.endpoint.pod_security import PodSecurityContext
from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_operator.kube.pod_security import USER_ID, pod_security_context
from llmendpoint_operator.loadtest.desired import desired as load_children
from llmendpoint_operator.loadtest.resources.copies import Sources
from llmendpoint_operator.settings import ChildSettings
from support.documents.golden import read_spec
from support.documents.restricted import assert_restricted
from support.in_memory import loadtests
from support.in_memory.endpoints import SETTINGS, children


def test_pods_have_a_fixed_user_by_default() -> None:
    context = pod_security_context()
    assert {context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {USER_ID}


@pytest.mark.parametrize("pod", ["endpoint", "load"])
def test_on_openshift_no_pod_has_an_id(pod: str) -> None:
    settings = ChildSettings(SETTINGS.images, openshift=True)
    spec = _pods(settings)[pod]
    assert_restricted(spec)
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & spec["securityContext"].keys()
    assert str(USER_ID) not in str(spec)


@pytest.mark.parametrize("openshift", [False, True])
def test_ids_of_a_spec_replace_the_defaults(openshift: bool) -> None:
    given = PodSecurityContext(run_as_user=1000, run_as_group=0, supplemental_groups=[5])
    context = pod_security_context(openshift, given)
    assert (context["runAsUser"], context["runAsGroup"], context["supplementalGroups"]) == (1000, 0, [5])
    # What is not given stays as it is: the platform assigns it on OpenShift.
    assert context.get("fsGroup") == (None if openshift else USER_ID)


def test_what_the_restricted_standard_requires_has_no_field() -> None:
    everything = PodSecurityContext.model_validate(
        read_spec(Path(__file__).parents[1] / "endpoint/golden", "everything")["pod"]["securityContext"]
    )
    context = pod_security_context(False, everything)
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["seLinuxOptions"].keys() == {"level"}


@pytest.mark.parametrize("pod", ["endpoint", "load"])
def test_the_group_of_a_pod_can_read_its_files(pod: str) -> None:
    """The user that a platform assigns owns no file, so files are accessible through the group, or to everyone."""
    for volume in _pods(SETTINGS)[pod]["volumes"]:
        source = volume.get("secret") or volume.get("configMap") or volume.get("projected") or {}
        assert source.get("defaultMode", 0o644) & 0o040


def _pods(settings: ChildSettings) -> dict[str, dict[str, Any]]:
    endpoint = children(settings, gpu={"count": 0}, metering={"auth": {"secretRefs": [{"name": "keys"}]}})
    load = load_children(
        loadtests.OWNER,
        parse_spec({"spec": {"endpointRef": {"name": "a"}, "request": {"apiKeySecretRef": {"name": "k", "key": "t"}}}}),
        loadtests.ENDPOINT,
        Sources([loadtests.QUESTIONS]),
        settings,
    )[-1]
    return {
        "endpoint": endpoint["StatefulSet/assistant"]["spec"]["template"]["spec"],
        "load": load["spec"]["template"]["spec"],
    }
