"""The Job of a run. Its pods are started once, and are not restarted if they fail.

The Job is created suspended, so that it has no pod until the start of the run is in the status of the LoadTest.
Kubernetes ends it after the longest time that a run can take, so that a run ends even if the load generator hangs.

A run with several pods has an Indexed Job. A pod that fails or is evicted must not end the others, whose results are
merged with its partial one, so failures are counted per index (`backoffLimitPerIndex`, on since Kubernetes 1.29).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmendpoint_common.api import defaults
from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.cluster import pods_service
from llmendpoint_common.contracts.loadrun import STATUS_PORT, RunLoad
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_common.process.units import parse_duration
from llmendpoint_operator.kube import pod_fields, pod_security
from llmendpoint_operator.kube.affinity import affinity_of
from llmendpoint_operator.kube.literal import literal_pod
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.rbac import identity_name, result_name
from llmendpoint_operator.loadtest.resources.volumes import Mounted, mounted, results_folder
from llmendpoint_operator.settings import ChildSettings, Images

#: A merge patch that lets the Job create its pods.
RELEASE: Manifest = {"spec": {"suspend": False}}
#: Time for starting the pods, and for writing the results.
_MARGIN_SECONDS = 1200
#: Time between SIGTERM and SIGKILL, in which the load generator writes its partial result.
_GRACE_SECONDS = 30
#: The Job controller sets this variable in each container of an Indexed Job. Kubelet replaces the reference.
_INDEX = "$(JOB_COMPLETION_INDEX)"


def job_name(owner: Owner) -> str:
    """Return the name of the Job."""
    return owner.name


def job(owner: Owner, spec: LoadTestSpec, questions: Sequence[Manifest], settings: ChildSettings) -> Manifest:
    """Return the Job. `questions` are the ConfigMaps with the questions of this run, as `snapshot` returns them."""
    images, pods = settings.images, spec.load.parallelism
    volumes = mounted(owner, spec, questions)
    labels = owner.pod_labels("load", spec.pod.labels)
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": identity_name(owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": pod_security.pod_security_context(settings.openshift),
        "containers": [_container(owner, spec, images, volumes)],
        "volumes": [each.volume for each in volumes],
        **pod_fields.placement(spec.pod.node_selector, spec.pod.tolerations, spec.pod.priority_class_name),
        **pod_fields.pull_secrets(spec.pod.image_pull_secrets, images.pull_secrets),
    }
    if spec.pod.affinity is not None:
        pod["affinity"] = affinity_of(spec.pod.affinity, owner.labels("load"))
    metadata = {"labels": labels, "annotations": dict(spec.pod.annotations)}
    return {
        **owner.child("Job", job_name(owner), "load"),
        "spec": {
            "suspend": True,
            "activeDeadlineSeconds": _longest_seconds(spec),
            **(_indexed(pods) if pods > 1 else {"backoffLimit": 0, "completions": 1, "parallelism": 1}),
            "template": {"metadata": metadata, "spec": _with_arguments(literal_pod(pod), _own(owner, spec))},
        },
    }


def _indexed(pods: int) -> Manifest:
    return {"completionMode": "Indexed", "backoffLimitPerIndex": 0, "completions": pods, "parallelism": pods}


def _longest_seconds(spec: LoadTestSpec) -> int:
    """Return the longest time that a run takes. The timeout applies to connecting, and again to the last request."""
    load = spec.resolved.load
    rest = load.warmup_seconds + load.drain_timeout_seconds + 2 * parse_duration(spec.request.timeout)
    return math.ceil(_load_seconds(load) + rest) + _MARGIN_SECONDS


def _load_seconds(load: RunLoad) -> float:
    if load.stages:
        return sum(stage.duration_seconds for stage in load.stages)
    if load.sweep is None:
        return load.duration_seconds
    # The search doubles and halves rates, and then halves the interval. Each rate may be measured twice.
    steps = math.log2(load.sweep.max_rate / load.sweep.min_rate) + math.log2(1 / load.sweep.precision)
    return 2 * math.ceil(steps + 4) * (load.sweep.step_seconds + load.drain_timeout_seconds)


def _container(owner: Owner, spec: LoadTestSpec, images: Images, volumes: Sequence[Mounted]) -> Manifest:
    return {
        "name": "load",
        "image": images.loadjob,
        "imagePullPolicy": images.loadjob_pull_policy,
        "args": [*(each.argument for each in volumes if each.argument), *_sidecar(owner, spec)],
        "ports": [{"name": "metrics", "containerPort": STATUS_PORT, "protocol": "TCP"}],
        "resources": pod_fields.resources(spec.pod.resources, defaults.LOADJOB_REQUESTS, defaults.LOADJOB_LIMITS),
        "securityContext": pod_security.container_security_context(),
        # If a run cannot start, the last lines of the log contain the reason, and the status of the LoadTest quotes it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [each.mount for each in volumes],
    }


def _sidecar(owner: Owner, spec: LoadTestSpec) -> list[str]:
    """Return the argument with the address of the sidecars of the endpoint."""
    if spec.endpoint_ref is None:
        return []
    return [f"--sidecar=http://{pods_service(spec.endpoint_ref.name)}.{owner.namespace}.svc:{ADMIN_PORT}"]


def _own(owner: Owner, spec: LoadTestSpec) -> list[str]:
    """Return the arguments that no text of a spec is part of, so that Kubernetes may replace a reference in them."""
    pods = spec.load.parallelism
    arguments = [
        f"--result-config-map={owner.namespace}/{result_name(owner, _INDEX if pods > 1 else 0)}",
        f"--status-listen=:{STATUS_PORT}",
    ]
    if spec.results is not None:
        arguments.append(f"--out={results_folder(owner)}" + (f"/pod-{_INDEX}" if pods > 1 else ""))
    return [*arguments, *([f"--slice={_INDEX}/{pods}"] if pods > 1 else [])]


def _with_arguments(pod: Manifest, arguments: Sequence[str]) -> Manifest:
    (container,) = pod["containers"]
    return {**pod, "containers": [{**container, "args": [*container["args"], *arguments]}]}
