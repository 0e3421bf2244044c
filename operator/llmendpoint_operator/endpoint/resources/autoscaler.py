"""Autoscaler of an endpoint: a ScaledObject of KEDA or a HorizontalPodAutoscaler, as the operator's setting says.

Both scale the StatefulSet by the load, which is the number of requests that run or wait on all pods. Kubernetes divides
it by a target per pod and rounds up. With the target `numParallel * targetUtilization`, the result is the smallest
number of pods whose utilization, `load / (numParallel * pods)`, is not above `targetUtilization`. The load does not
depend on how many pods are ready, so that pods which still load their models do not cause more pods.
"""

from __future__ import annotations

import math

from llmendpoint_common.api.endpoint.scaling import Autoscaling
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.sidecar import Metric
from llmendpoint_common.process.units import parse_duration, parse_share
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import Actuator, ChildSettings

#: Metrics that an adapter of the external metrics API has to serve for HorizontalPodAutoscalers (docs/scaling.md).
LOAD_METRIC = "llmendpoint_requests_in_flight"
WAITING_METRIC = "llmendpoint_requests_waiting"
#: KEDA copies the labels of a ScaledObject to the HorizontalPodAutoscaler that it creates, except these.
_EXCLUDED_LABELS = "scaledobject.keda.sh/hpa-excluded-labels"
# A minute smooths bursts that end before a new pod has loaded its models. An average needs a few scrapes.
_WINDOW_SECONDS = 60.0
_SCRAPES = 4
#: The maximum that a HorizontalPodAutoscaler accepts.
_MAX_WINDOW_SECONDS = 3600


def autoscaler(owner: Owner, spec: LLMEndpointSpec, settings: ChildSettings) -> Manifest | None:
    """Return the autoscaler, or None if the endpoint has none."""
    if spec.autoscaling is None or settings.actuator is None:
        return None
    if settings.actuator is Actuator.KEDA:
        return _scaled_object(owner, spec, spec.autoscaling, settings.prometheus_url)
    return _pod_autoscaler(owner, spec, spec.autoscaling)


def _scaled_object(owner: Owner, spec: LLMEndpointSpec, scaling: Autoscaling, prometheus_url: str) -> Manifest:
    child = owner.child("ScaledObject", layout.autoscaler_name(owner), "autoscaling")
    labels = ",".join(child["metadata"]["labels"])
    running, waiting = (_average(metric, owner, spec) for metric in (Metric.REQUESTS_RUNNING, Metric.REQUESTS_WAITING))
    triggers = [_trigger("load", f"{running} + {waiting}", _load_millis(spec, scaling), prometheus_url)]
    if scaling.requests_waiting is not None:
        triggers.append(_trigger("waiting", waiting, scaling.requests_waiting * 1000, prometheus_url))
    return {
        **child,
        "metadata": {**child["metadata"], "annotations": {_EXCLUDED_LABELS: labels}},
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
            "triggers": triggers,
        },
    }


def _trigger(name: str, query: str, millis: int, prometheus_url: str) -> Manifest:
    """Return a trigger with a target of some thousandths per pod.

    By default, KEDA takes a query without a result for 0, and would remove pods whenever Prometheus loses its targets.
    """
    metadata = {
        "serverAddress": prometheus_url,
        "query": query,
        "threshold": f"{millis / 1000:g}",
        "ignoreNullValues": "false",
    }
    return {"type": "prometheus", "name": name, "metricType": "AverageValue", "metadata": metadata}


def _pod_autoscaler(owner: Owner, spec: LLMEndpointSpec, scaling: Autoscaling) -> Manifest:
    metrics = [_external(LOAD_METRIC, owner, _load_millis(spec, scaling))]
    if scaling.requests_waiting is not None:
        metrics.append(_external(WAITING_METRIC, owner, scaling.requests_waiting * 1000))
    return {
        **owner.child("HorizontalPodAutoscaler", layout.autoscaler_name(owner), "autoscaling"),
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "behavior": _behavior(scaling),
            "metrics": metrics,
        },
    }


def _external(name: str, owner: Owner, millis: int) -> Manifest:
    metric = {"name": name, "selector": {"matchLabels": {"llmendpoint": owner.name}}}
    target = {"type": "AverageValue", "averageValue": _quantity(millis)}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def _target(owner: Owner) -> Manifest:
    kind = KINDS["StatefulSet"]
    return {"apiVersion": kind.api_version, "kind": kind.name, "name": layout.statefulset_name(owner)}


def _behavior(scaling: Autoscaling) -> Manifest:
    seconds = min(_MAX_WINDOW_SECONDS, math.ceil(parse_duration(scaling.scale_down_delay)))
    return {"scaleDown": {"stabilizationWindowSeconds": seconds}}


def _average(metric: str, owner: Owner, spec: LLMEndpointSpec) -> str:
    """Return a query for the average of a gauge over the last time, summed over all pods."""
    window = math.ceil(max(_WINDOW_SECONDS, _SCRAPES * parse_duration(spec.monitoring.scrape_interval)))
    labels = f'namespace="{owner.namespace}",llmendpoint="{owner.name}"'
    return f"sum(avg_over_time({metric}{{{labels}}}[{window}s]))"


def _load_millis(spec: LLMEndpointSpec, scaling: Autoscaling) -> int:
    """Return the target of the load per pod, in thousandths of a request."""
    return round(spec.ollama.num_parallel * parse_share(scaling.target_utilization) * 1000)


def _quantity(millis: int) -> str:
    """Return a quantity in the form in which the API server returns it, so that it does not look like a change."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)
