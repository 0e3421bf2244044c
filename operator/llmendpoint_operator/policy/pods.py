"""The values of an endpoint's pods that rules of the policy cover: those of `spec.pod` and of `spec.podTemplate`."""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.template.containers import OllamaAddition
from llmendpoint_common.api.endpoint.template.part import Object
from llmendpoint_common.api.endpoint.template.pod import PodSpec, Template
from llmendpoint_common.api.endpoint.template.volumes import TemplateVolume
from llmendpoint_common.api.endpoint.volumes import Volume
from llmendpoint_operator.policy.use import Use, Uses

_TEMPLATE = "spec.podTemplate.spec"


def pod_images(spec: LLMEndpointSpec) -> Uses:
    """Yield the images of additional containers, and those whose content is a volume."""
    for path, volume in _volumes(spec):
        if volume.image is not None:
            yield Use(f"{path}.image.reference", volume.image.reference)
    template = _template(spec)
    for field, containers in (("initContainers", template.init_containers), ("containers", template.containers)):
        for index, container in enumerate(containers or []):
            if not isinstance(container, OllamaAddition):
                yield Use(f"{_TEMPLATE}.{field}[{index}].image", container.image)


def service_account(spec: LLMEndpointSpec) -> Uses:
    """Yield the name of the ServiceAccount, unless it is the operator's."""
    if spec.pod.service_account_name is not None:
        yield Use("spec.pod.serviceAccountName", spec.pod.service_account_name)


def claims(spec: LLMEndpointSpec) -> Uses:
    """Yield the names of existing claims, and of objects whose data a new claim would get a copy of."""
    if spec.storage.claim_name is not None:
        yield Use("spec.storage.claimName", spec.storage.claim_name)
    for path, volume in _volumes(spec):
        if volume.persistent_volume_claim is not None:
            yield Use(f"{path}.persistentVolumeClaim.claimName", volume.persistent_volume_claim.claim_name)
        if isinstance(volume, TemplateVolume) and volume.ephemeral is not None:
            yield from _copied(f"{path}.ephemeral.volumeClaimTemplate.spec", volume.ephemeral)


def volume_types(spec: LLMEndpointSpec) -> Uses:
    """Yield the types of additional volumes."""
    for path, volume in _volumes(spec):
        yield from (Use(path, name) for name in volume.types)


def template_fields(spec: LLMEndpointSpec) -> Uses:
    """Yield the names of the fields that a template sets."""
    yield from (Use(_TEMPLATE, name) for name in (spec.pod_template or {}).get("spec", {}))


def _template(spec: LLMEndpointSpec) -> PodSpec:
    return Template.model_validate(spec.pod_template).spec if spec.pod_template else PodSpec()


def _volumes(spec: LLMEndpointSpec) -> Iterator[tuple[str, Volume | TemplateVolume]]:
    """Yield all additional volumes with their paths."""
    yield from ((f"spec.pod.volumes[{index}]", volume) for index, volume in enumerate(spec.pod.volumes))
    added = _template(spec).volumes or []
    yield from ((f"{_TEMPLATE}.volumes[{index}]", volume) for index, volume in enumerate(added))


def _copied(path: str, ephemeral: Object) -> Uses:
    """Yield the sources of a new claim. The API server has not checked the types of a template's values yet."""
    claim = ephemeral.get("volumeClaimTemplate")
    content = claim.get("spec") if isinstance(claim, dict) else None
    for field in ("dataSource", "dataSourceRef"):
        source = content.get(field) if isinstance(content, dict) else None
        if isinstance(source, dict):
            yield Use(f"{path}.{field}.name", str(source.get("name", "")))
