"""Typed model of LLMEndpoint: the source of its CustomResourceDefinition, and the spec that the operator reads.

`kubectl explain` shows the descriptions. Readers see each one without the others, so it names the unit, the default,
and the effect of an absent field.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.gpu import GPUS_IN_RESOURCES, Gpu
from llmendpoint_common.api.endpoint.http_route import HTTPRoute
from llmendpoint_common.api.endpoint.ingress import Ingress
from llmendpoint_common.api.endpoint.metering import Metering
from llmendpoint_common.api.endpoint.models import (
    GGUF_ON_A_VOLUME,
    MODELFILES_FIT,
    ONE_MODEL_EACH,
    PRELOADED_MODELS,
    Model,
    check_bases,
    check_modelfile,
)
from llmendpoint_common.api.endpoint.monitoring import Monitoring
from llmendpoint_common.api.endpoint.network import Service
from llmendpoint_common.api.endpoint.network_policy import NetworkPolicy
from llmendpoint_common.api.endpoint.ollama import OllamaSettings
from llmendpoint_common.api.endpoint.pod import Pod
from llmendpoint_common.api.endpoint.pod_template import PodTemplate
from llmendpoint_common.api.endpoint.scaling import (
    MAX_REPLICAS,
    SCALING_RULES,
    Autoscaling,
    DisruptionBudget,
)
from llmendpoint_common.api.endpoint.status import LLMEndpointStatus
from llmendpoint_common.api.endpoint.storage import ONLY_OWN_MODELS, STORAGE_CHANGES, Storage
from llmendpoint_common.api.endpoint.template.gpus import gpu_problems
from llmendpoint_common.api.endpoint.template.part import errors
from llmendpoint_common.api.fields import ApiModel, list_map, rules
from llmendpoint_common.contracts.ollama import model_key


class LLMEndpointSpec(ApiModel):
    """Desired state of an endpoint."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *STORAGE_CHANGES, *ONLY_OWN_MODELS, GGUF_ON_A_VOLUME, *PRELOADED_MODELS, *GPUS_IN_RESOURCES, *SCALING_RULES
        )
    )

    models: list[Model] = Field(
        min_length=1,
        max_length=defaults.MAX_MODELS,
        description=f"Models that every replica serves: at least 1, at most {defaults.MAX_MODELS}.",
        json_schema_extra=list_map("name") | rules(ONE_MODEL_EACH, MODELFILES_FIT),
    )
    replicas: int | None = Field(
        None,
        ge=0,
        le=MAX_REPLICAS,
        description="Number of pods. Each pod has its own GPUs. Set to 0 to stop all pods. It cannot be set together "
        "with autoscaling, which chooses the number. "
        f"Defaults to {defaults.REPLICAS}.",
    )
    autoscaling: Autoscaling | None = Field(
        None,
        description="Number of pods that follows the load, instead of replicas. The operator must have been installed "
        "with an autoscaler (value autoscaling.actuator of its chart). If absent, replicas is the number of pods.",
    )
    gpu: Gpu | None = Field(
        None,
        description="GPUs of each replica. If absent, each replica gets "
        f"{defaults.GPU_COUNT} GPU ({defaults.GPU_RESOURCE}).",
    )
    ollama: OllamaSettings = Field(default_factory=OllamaSettings, description="Settings of the Ollama container.")
    storage: Storage = Field(
        default_factory=Storage,
        description="Storage for the models of each replica. Only size, which may grow, and retentionPolicy can be "
        "changed later. To use different storage, create another LLMEndpoint.",
    )
    metering: Metering = Field(
        default_factory=Metering,
        description="Settings of the metering sidecar: image, API keys, limits and timeouts for clients.",
    )
    service: Service = Field(
        default_factory=Service,
        description="Type, port and annotations of the Service through which clients use the endpoint. It has the "
        "endpoint's name.",
    )
    ingress: Ingress | None = Field(
        None,
        description="The Ingress through which clients outside the cluster use the endpoint. It can be set together "
        "with httpRoute. If absent, there is none.",
    )
    http_route: HTTPRoute | None = Field(
        None,
        description="The HTTPRoute through which clients use the endpoint behind a Gateway. The cluster needs the "
        "Gateway API in version 1.2 or newer; without it, the endpoint works, and the condition Degraded says that the "
        "kind is missing. It can be set together with ingress. If absent, there is no HTTPRoute.",
    )
    network_policy: NetworkPolicy = Field(
        default_factory=NetworkPolicy,
        description="The NetworkPolicy of the pods. If absent, it is enabled: every source may connect to the port for "
        "clients, only the namespaces of the monitoring and the operator to the port for metrics, and no one to other "
        "ports.",
    )
    monitoring: Monitoring = Field(
        default_factory=Monitoring, description="Configuration of Prometheus to scrape the pods."
    )
    pod: Pod = Field(
        default_factory=Pod, description="Metadata, placement, identity, volumes and termination of the pods."
    )
    pod_template: PodTemplate | None = Field(
        None,
        description="Fields of the pods for which the spec has no field, as a strategic merge by name over the pod of "
        "the operator, for example spec.dnsConfig or an additional container. A field that the operator sets, or for "
        "which the spec has a field, is not changed: it makes the endpoint Stalled with the reason InvalidSpec. "
        "docs/pods.md lists the fields. If absent, nothing is added.",
    )
    disruption_budget: DisruptionBudget | None = Field(
        None,
        description="Number of pods that must stay ready when pods are evicted, as a PodDisruptionBudget. While a pod "
        "loads its models, no pod of the endpoint is evicted. If absent, evictions are not limited.",
    )

    @field_validator("models")
    @classmethod
    def _valid_modelfiles(cls, models: list[Model]) -> list[Model]:
        for model in models:
            if model.modelfile is not None and model.modelfile.inline is not None:
                check_modelfile(model, model.modelfile.inline)
        check_bases(models)
        return models

    @field_validator("models")
    @classmethod
    def _one_model_each(cls, models: list[Model]) -> list[Model]:
        first: dict[str, str] = {}
        for model in models:
            other = first.setdefault(model_key(model.name), model.name)
            if other != model.name:
                raise ValueError(f"{other} and {model.name} are one model for Ollama; remove one of them")
        return models

    @field_validator("pod_template")
    @classmethod
    def _gpus_are_in_one_place(cls, template: PodTemplate | None, info: ValidationInfo) -> PodTemplate | None:
        found = dict(gpu_problems(template, (info.data.get("gpu") or Gpu()).device_resource)) if template else {}
        if found:
            raise errors("podTemplate", found)
        return template

    @property
    def wanted_replicas(self) -> int:
        """Number of pods: the field `replicas` or its default; with autoscaling, the number to start with."""
        if self.autoscaling is not None:
            return self.autoscaling.min_replicas
        return defaults.REPLICAS if self.replicas is None else self.replicas

    @property
    def most_replicas(self) -> int:
        """Maximum number of pods that the spec allows."""
        return self.wanted_replicas if self.autoscaling is None else self.autoscaling.max_replicas

    @property
    def wanted_gpu(self) -> Gpu:
        """GPUs of a replica: the field `gpu`, or its default."""
        return self.gpu or Gpu()


class LLMEndpoint(BaseModel):
    """An Ollama endpoint. Its pods serve the declared models, and a sidecar in each pod meters the requests."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must start with a letter, end with a letter or digit, contain only lowercase letters, "
                "digits and dashes, and have at most 40 characters",
            )
        )
    )

    spec: LLMEndpointSpec = Field(description="Desired state of the endpoint.")
    status: LLMEndpointStatus | None = Field(
        None, description="Observed state of the endpoint. The operator writes it."
    )


def parse_spec(manifest: dict[str, Any]) -> LLMEndpointSpec:
    """Return the spec of an LLMEndpoint. Raises pydantic.ValidationError, which names the field."""
    return LLMEndpointSpec.model_validate(manifest.get("spec", {}))
