"""The Job of a run: one pod, started once, never again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.api.loadtest import LoadTestSpec, Order, SloItem
from llmendpoint_common.contracts.loadrun import LATENCY_METRICS, STATUS_PORT, Api
from llmendpoint_operator.kube import pod_fields, pod_security
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.rbac import identity_name, result_name
from llmendpoint_operator.settings import Images

_QUESTIONS_PATH = "/etc/llmendpoint/questions"
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOKEN_SECONDS = 3600
_FLAGS = {
    "TTFT": "ttft",
    "TPOT": "tpot",
    "RequestLatency": "request_latency",
    "ErrorRate": "error_rate",
    "Attainment": "attainment",
}


@dataclass(frozen=True)
class ResolvedTarget:
    """What a run drives, once its references are resolved."""

    url: str
    api: Api
    model: str
    digest: str = ""
    gpu: str = ""


def job_name(owner: Owner) -> str:
    """Return the name of the run's Job."""
    return owner.name


def job(
    owner: Owner, spec: LoadTestSpec, target: ResolvedTarget, question_maps: Sequence[str], images: Images
) -> Manifest:
    """Return the Job."""
    labels = owner.labels("load")
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": identity_name(owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security.pod_security_context(),
        "containers": [_container(owner, spec, target, images)],
        "volumes": [_questions_volume(question_maps), _token_volume(), {"name": "tmp", "emptyDir": {}}],
        **pod_fields.placement(spec.pod.node_selector, spec.pod.tolerations, spec.pod.priority_class_name),
        **pod_fields.pull_secrets(spec.pod.image_pull_secrets, images.pull_secrets),
    }
    metadata = {"labels": {**spec.pod.labels, **labels}, "annotations": dict(spec.pod.annotations)}
    return {
        **owner.child("Job", job_name(owner), "load"),
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def _container(owner: Owner, spec: LoadTestSpec, target: ResolvedTarget, images: Images) -> Manifest:
    return {
        "name": "load",
        "image": images.loadjob,
        "imagePullPolicy": images.loadjob_pull_policy,
        "args": arguments(owner, spec, target),
        **_api_key(spec),
        "ports": [{"name": "metrics", "containerPort": STATUS_PORT, "protocol": "TCP"}],
        "resources": pod_fields.resources(spec.pod.resources, {"cpu": "500m", "memory": "128Mi"}, {"memory": "1Gi"}),
        "securityContext": pod_security.container_security_context(),
        # The last lines of the log say why a run could not begin.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "questions", "mountPath": _QUESTIONS_PATH, "readOnly": True},
            {"name": "token", "mountPath": _TOKEN_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an empty volume of the pod
        ],
    }


def _api_key(spec: LoadTestSpec) -> Manifest:
    """Return the environment with the key: on a command line it could be read by anyone who may see pods."""
    reference = spec.request.api_key_secret_ref
    if reference is None:
        return {}
    source = {"secretKeyRef": {"name": reference.name, "key": reference.key}}
    return {"env": [{"name": "LLMENDPOINT_LOAD_API_KEY", "valueFrom": source}]}


def arguments(owner: Owner, spec: LoadTestSpec, target: ResolvedTarget) -> list[str]:
    """Return the load generator's command line."""
    load, request, questions = spec.load, spec.request, spec.dataset.questions
    flags: dict[str, object] = {
        "url": target.url,
        "api": target.api.value,
        "model": target.model,
        "concurrency": load.concurrency,
        "rate": load.rate,
        "arrivals": load.arrivals.value.lower() if load.arrivals else None,
        "duration": load.duration,
        "warmup": load.warmup,
        "max-requests": load.max_requests,
        "seed": load.seed,
        "max-tokens": request.max_tokens,
        "temperature": request.temperature,
        "timeout": request.timeout,
        "questions": _QUESTIONS_PATH,
        "result-config-map": f"{owner.namespace}/{result_name(owner)}",
        "status-listen": f":{STATUS_PORT}",
    }
    given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    given += [f"--category={category}" for category in questions.categories]
    given += [f"--slo={_objective(item)}" for item in spec.slo]
    given += [] if request.stream else ["--no-stream"]
    return given + (["--in-order"] if questions.order is Order.SEQUENTIAL else [])


def _objective(item: SloItem) -> str:
    percentile = f":p{item.percentile}" if item.metric in LATENCY_METRICS else ""
    return f"{_FLAGS[item.metric.value]}{percentile}={item.threshold}"


def _questions_volume(names: Sequence[str]) -> Manifest:
    return {"name": "questions", "projected": {"sources": [{"configMap": {"name": name}} for name in names]}}


def _token_volume() -> Manifest:
    """Return a projected token, mounted only here: other pods of ours have none."""
    sources: list[Manifest] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "token", "projected": {"sources": sources}}
