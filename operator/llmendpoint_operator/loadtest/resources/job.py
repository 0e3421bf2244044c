"""The Job of a run. Its pod is started once, and is not restarted if it fails.

The Job is created suspended, so that it has no pod until the start of the run is in the status of the LoadTest.
Kubernetes ends it after the longest time that a run can take, so that a run ends even if the load generator hangs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmendpoint_common.api import defaults
from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.loadrun import RUN_KEY, STATUS_PORT
from llmendpoint_common.process.units import parse_duration
from llmendpoint_operator.kube import pod_fields, pod_security
from llmendpoint_operator.kube.literal import literal_pod
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.questions import questions_volume
from llmendpoint_operator.loadtest.resources.rbac import identity_name, result_name
from llmendpoint_operator.loadtest.resources.run import run_name
from llmendpoint_operator.settings import ChildSettings, Images

_RUN_PATH = "/etc/llmendpoint/run"
_QUESTIONS_PATH = "/etc/llmendpoint/questions"
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOKEN_SECONDS = 3600
_KEY_PATH = "/etc/llmendpoint/api-key"
_KEY_FILE = "key"
#: A merge patch that lets the Job create its pod.
RELEASE: Manifest = {"spec": {"suspend": False}}
#: Time for starting the pod, and for writing the result.
_MARGIN_SECONDS = 1200
# Kubelet gives the files of a Secret to the group of the pod (fsGroup).
_KEY_MODE = 0o440


def job_name(owner: Owner) -> str:
    """Return the name of the Job."""
    return owner.name


def job(owner: Owner, spec: LoadTestSpec, questions: Sequence[Manifest], settings: ChildSettings) -> Manifest:
    """Return the Job. `questions` are the ConfigMaps with the questions of this run, as `snapshot` returns them."""
    images = settings.images
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": identity_name(owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security.pod_security_context(settings.openshift),
        "containers": [_container(owner, spec, images)],
        "volumes": [
            {"name": "run", "configMap": {"name": run_name(owner)}},
            questions_volume(questions),
            _token_volume(),
            *_key_volume(spec),
            {"name": "tmp", "emptyDir": {}},
        ],
        **pod_fields.placement(spec.pod.node_selector, spec.pod.tolerations, spec.pod.priority_class_name),
        **pod_fields.pull_secrets(spec.pod.image_pull_secrets, images.pull_secrets),
    }
    metadata = {"labels": owner.pod_labels("load", spec.pod.labels), "annotations": dict(spec.pod.annotations)}
    return {
        **owner.child("Job", job_name(owner), "load"),
        "spec": {
            "suspend": True,
            "activeDeadlineSeconds": _longest_seconds(spec),
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": {"metadata": metadata, "spec": literal_pod(pod)},
        },
    }


def _longest_seconds(spec: LoadTestSpec) -> int:
    """Return the longest time that a run takes. The timeout applies to connecting, and again to the last request."""
    load = parse_duration(spec.load.warmup) + parse_duration(spec.load.duration)
    return math.ceil(load + 2 * parse_duration(spec.request.timeout)) + _MARGIN_SECONDS


def _container(owner: Owner, spec: LoadTestSpec, images: Images) -> Manifest:
    return {
        "name": "load",
        "image": images.loadjob,
        "imagePullPolicy": images.loadjob_pull_policy,
        "args": [
            f"--run={_RUN_PATH}/{RUN_KEY}",
            f"--questions={_QUESTIONS_PATH}",
            f"--result-config-map={owner.namespace}/{result_name(owner)}",
            f"--status-listen=:{STATUS_PORT}",
            *([f"--api-key-file={_KEY_PATH}/{_KEY_FILE}"] if spec.request.api_key_secret_ref else []),
        ],
        "ports": [{"name": "metrics", "containerPort": STATUS_PORT, "protocol": "TCP"}],
        "resources": pod_fields.resources(spec.pod.resources, defaults.LOADJOB_REQUESTS, defaults.LOADJOB_LIMITS),
        "securityContext": pod_security.container_security_context(),
        # If a run cannot start, the last lines of the log contain the reason, and the status of the LoadTest quotes it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "run", "mountPath": _RUN_PATH, "readOnly": True},
            {"name": "questions", "mountPath": _QUESTIONS_PATH, "readOnly": True},
            {"name": "token", "mountPath": _TOKEN_PATH, "readOnly": True},
            *({"name": item["name"], "mountPath": _KEY_PATH, "readOnly": True} for item in _key_volume(spec)),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an empty volume of the pod
        ],
    }


def _key_volume(spec: LoadTestSpec) -> list[Manifest]:
    """Return the volume with the API key, or nothing if the run has none.

    It has only the one entry of the Secret. The key is a file, because everyone who can read pods can read command
    lines, and because a text in a container's environment can be quoted by any other text of the container.
    """
    reference = spec.request.api_key_secret_ref
    if reference is None:
        return []
    items = [{"key": reference.key, "path": _KEY_FILE}]
    return [{"name": "api-key", "secret": {"secretName": reference.name, "defaultMode": _KEY_MODE, "items": items}}]


def _token_volume() -> Manifest:
    """Return the volume with a projected token. Only load pods have a token."""
    sources: list[Manifest] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "token", "projected": {"sources": sources}}
