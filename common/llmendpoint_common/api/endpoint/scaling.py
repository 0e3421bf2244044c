"""The number of pods: `spec.autoscaling`, `spec.disruptionBudget`, and the rules that bind them to `spec.replicas`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, Duration, Percentage, rules

#: The maximum number of pods of an endpoint.
MAX_REPLICAS = 1000

#: CEL rules of the spec. The second one is about a change, so it only applies to updates: without it, a manifest from
#: which `autoscaling` is removed would stop all pods except one.
SCALING_RULES = (
    (
        "!has(self.replicas) || !has(self.autoscaling)",
        "replicas and autoscaling cannot be set together; to choose the number of pods yourself, remove "
        "autoscaling and set replicas",
    ),
    (
        "!has(oldSelf.autoscaling) || has(self.autoscaling) || has(self.replicas)",
        "set replicas when you remove autoscaling; without it, all pods except one would be stopped",
    ),
    (
        "!has(self.autoscaling) || !has(self.metering) || !has(self.metering.mode) || self.metering.mode == 'Proxy'",
        "autoscaling requires metering.mode Proxy, because only the proxy knows how many requests run and wait",
    ),
)


class Autoscaling(ApiModel):
    """Bounds and targets of the number of pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
                "maxReplicas must be at least minReplicas",
            ),
            (
                "!has(self.scaleDownDelay) || duration(self.scaleDownDelay) <= duration('1h')",
                "scaleDownDelay must be at most 1h, the longest time that a HorizontalPodAutoscaler accepts",
            ),
        )
    )

    min_replicas: int = Field(
        defaults.MIN_REPLICAS,
        ge=1,
        le=MAX_REPLICAS,
        description="Minimum number of pods, at least 1: the metrics that show new requests come from the pods, so an "
        f"autoscaler could not start the first one. Defaults to {defaults.MIN_REPLICAS}.",
    )
    max_replicas: int = Field(
        ge=1,
        le=MAX_REPLICAS,
        description="Maximum number of pods. It has no default, because each pod has its own GPUs, and their number is "
        "yours to decide.",
    )
    target_utilization: Percentage = Field(
        defaults.TARGET_UTILIZATION,
        description="Target for the requests that run or wait, as a percentage of the requests that all pods can run "
        "at the same time (ollama.numParallel per pod). Above it, pods are added. Pods that are not needed to stay at "
        "it are removed after scaleDownDelay. A value below 100% adds pods before requests have to wait. "
        f"The average of the last minute counts. Defaults to {defaults.TARGET_UTILIZATION}.",
    )
    requests_waiting: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Average number of waiting requests per pod above which pods are added, even if targetUtilization "
        "does not require it. If absent, only targetUtilization decides.",
    )
    scale_down_delay: Duration = Field(
        defaults.SCALE_DOWN_DELAY,
        description="Time for which fewer pods must be enough before pods are removed, as a duration such as 5m, at "
        "most 1h. A new pod has to load its models first, so a longer time avoids that pods are removed and soon added "
        f"again. Defaults to {defaults.SCALE_DOWN_DELAY}.",
    )


#: Number of pods, or a percentage of them. Kubernetes takes a string with a number alone for an error.
IntOrPercentage = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^([1-9][0-9]?|100)%$",
            "maxLength": 4,
        }
    ),
]


class DisruptionBudget(ApiModel):
    """Bounds on evictions of pods, for example while nodes are drained."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"type(self.minAvailable) != int || (self.minAvailable >= 1 && self.minAvailable <= {MAX_REPLICAS})",
                f"minAvailable must be a percentage such as 50% or a number from 1 to {MAX_REPLICAS}",
            ),
        )
    )

    min_available: IntOrPercentage = Field(
        description="Number of pods that must stay ready when pods are evicted, for example to drain a node: a number "
        "such as 1, or a percentage of all pods such as 50%. A value that leaves no pod over, such as 1 with one pod, "
        "blocks each drain of its node until the pod is deleted or moved by hand.",
    )
